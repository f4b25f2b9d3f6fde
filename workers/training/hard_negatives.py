"""Hard negatives: texts that an embedder takes for an answer and that, by all that is known, are none.

The margins are NV-Retriever's (arXiv:2407.15831, TopK-PercPos and TopK-MarginPos): what scores nearly as high as the
known answer is probably an unlabelled one, and would teach the wrong thing.

Notation: N questions, P candidates, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from jobspecs.kinds.hard_negatives import HardNegatives
from workers.local_models.tokens import Int64s

Floats = npt.NDArray[np.float32]
Side = Literal["query", "passage"]
#: Texts (N), and whether they are put as queries or passages, to unit vectors (N, D).
Embed = Callable[[Sequence[str], Side], Floats]

#: Questions compared with all candidates at once: bounds memory to this times P.
QUESTIONS_AT_ONCE = 512


def nearest_negatives(
    questions: Sequence[tuple[str, int]],
    candidates: Sequence[str],
    embed: Embed,
    settings: HardNegatives,
    seed: int,
    known: Callable[[int], Int64s],
) -> Iterator[Int64s]:
    """For each question, places of at most `num_negatives` candidates within ranks and margins, best first.

    `questions`: a text and the place of its answer among the candidates. `known(n)`: places that question n must not
    get; asked just before its negatives are found, so it may grow with what others got.
    """
    vectors = embed(candidates, "passage")
    for start in range(0, len(questions), QUESTIONS_AT_ONCE):
        part = questions[start : start + QUESTIONS_AT_ONCE]
        cosines = embed([text for text, _ in part], "query") @ vectors.T
        for number, ((_, answer), scores) in enumerate(zip(part, cosines, strict=True), start=start):
            yield _within(scores, float(scores[answer]), known(number), settings, [seed, number])


def _within(scores: Floats, answer: float, known: Int64s, settings: HardNegatives, seed: list[int]) -> Int64s:
    limits = [np.inf]
    if settings.relative_margin is not None:
        # Also below an answer whose own cosine is negative.
        limits.append(answer - settings.relative_margin * abs(answer))
    if settings.absolute_margin is not None:
        limits.append(answer - settings.absolute_margin)
    if settings.max_score is not None:
        limits.append(settings.max_score)
    ranked = np.argsort(-scores, kind="stable")[: settings.range_max + len(known)]
    ranked = ranked[~np.isin(ranked, known)][settings.range_min : settings.range_max]
    passing = ranked[scores[ranked] <= min(limits)]
    if settings.sampling == "random":
        passing = np.random.default_rng(seed).permutation(passing)
    return passing[: settings.num_negatives]
