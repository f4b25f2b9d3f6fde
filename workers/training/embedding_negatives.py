"""Hard negatives for an embedder: positives of other rows that a model ranks high for an anchor.

The margins are NV-Retriever's (arXiv:2407.15831): what scores nearly as high as the known positive is probably an
unlabelled one. An anchor that has too few candidates within them gets passages drawn by chance.

Notation: N rows, P distinct positives, K negatives per row, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobspecs.kinds.train_embedder import HardNegatives
from jobspecs.lifecycle import Reason
from jobspecs.problems import Problem
from workers.runners.context import RunFailed
from workers.training.embedding_data import EmbeddingRows
from workers.training.tokens import Int64s

Floats = npt.NDArray[np.float32]
#: Texts and the name of their prompt (`query`, `passage`) to unit vectors (N, D).
Embed = Callable[[Sequence[str], str], Floats]

#: Anchors compared with all positives at once: bounds memory to this times P.
_ANCHORS_AT_ONCE = 512


@dataclass(frozen=True)
class Mined:
    """The rows with their negatives, and how many of these were drawn by chance."""

    rows: EmbeddingRows
    mined: int
    drawn: int


def mine_negatives(rows: EmbeddingRows, embed: Embed, settings: HardNegatives, seed: int) -> Mined:
    """Adds `num_negatives` columns to rows of anchor and positive. Only these rows' positives are candidates.

    A text that is a positive of the same anchor, or the anchor itself, is never taken. Raises
    RunFailed(invalid_dataset) when there are fewer positives than an anchor needs negatives.
    """
    passages = np.unique(rows.columns[:, 1])
    known = _known(rows)
    if len(passages) - max(len(own & set(passages.tolist())) for own in known.values()) < settings.num_negatives:
        problem = Problem(
            field="hard_negatives",
            message=f"an anchor has fewer than {settings.num_negatives} positives of others to choose from.",
            remedy="Lower num_negatives or add rows.",
        )
        raise RunFailed(Reason.invalid_dataset, str(problem))
    vectors = embed([rows.texts[text] for text in passages], "passage")
    place_of = {text: place for place, text in enumerate(passages.tolist())}
    chosen = np.zeros((len(rows), settings.num_negatives), dtype=np.int64)
    drawn = 0
    for start in range(0, len(rows), _ANCHORS_AT_ONCE):
        part = rows.columns[start : start + _ANCHORS_AT_ONCE, :2].tolist()
        cosines = embed([rows.texts[anchor] for anchor, _ in part], "query") @ vectors.T
        for offset, ((anchor, positive), scores) in enumerate(zip(part, cosines, strict=True)):
            taken = np.array([place_of[text] for text in known[anchor] if text in place_of], dtype=np.int64)
            answer = float(scores[place_of[positive]])
            found = _nearest(scores, answer, taken, settings)
            missing = settings.num_negatives - len(found)
            if missing:
                drawn += missing
                found = np.append(
                    found, _by_chance(len(passages), np.append(taken, found), missing, [seed, start + offset])
                )
            chosen[start + offset] = passages[found]
    return Mined(rows.with_negatives(rows.texts, chosen), chosen.size - drawn, drawn)


def _known(rows: EmbeddingRows) -> dict[int, set[int]]:
    """Anchor -> itself and its positives, as numbers of texts."""
    known: dict[int, set[int]] = {}
    for anchor, positive in rows.columns[:, :2].tolist():
        known.setdefault(anchor, {anchor}).add(positive)
    return known


def _nearest(scores: Floats, answer: float, taken: Int64s, settings: HardNegatives) -> Int64s:
    """Places of the best candidates within rank and margins, at most `num_negatives`."""
    limits = [np.inf]
    if settings.relative_margin is not None:
        limits.append(answer - settings.relative_margin * abs(answer))
    if settings.absolute_margin is not None:
        limits.append(answer - settings.absolute_margin)
    if settings.max_score is not None:
        limits.append(settings.max_score)
    ranked = np.argsort(-scores, kind="stable")[: settings.range_max + len(taken)]
    ranked = ranked[~np.isin(ranked, taken)][settings.range_min : settings.range_max]
    return ranked[scores[ranked] <= min(limits)][: settings.num_negatives]


def _by_chance(passages: int, taken: Int64s, count: int, seed: list[int]) -> Int64s:
    others = np.setdiff1d(np.arange(passages), taken)
    return np.random.default_rng(seed).choice(others, size=count, replace=False)
