"""Hard negatives: passages that an embedder takes for an answer and that, by all that is known, are none.

The margins are NV-Retriever's (arXiv:2407.15831, TopK-PercPos and TopK-MarginPos): what scores nearly as high as the
known answer is probably an unlabelled one, and would teach the wrong thing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from jobspecs.kinds.train_reranker import HardNegatives
from jobspecs.lifecycle import Reason
from workers.runners.context import RunFailed
from workers.training.bm25 import Bm25
from workers.training.ranking_data import RELEVANT_MIN, Pairs

Floats = npt.NDArray[np.float32]
#: Texts (N) and the name of their prompt (`query`, `passage`) to unit vectors (N, D).
Embed = Callable[[Sequence[str], str], Floats]

#: Queries compared with all passages at once: bounds memory to this times the number of passages.
_QUERIES_AT_ONCE = 512


def mine_negatives(pairs: Pairs, corpus: Sequence[str], embed: Embed, settings: HardNegatives, seed: int) -> Pairs:
    """`pairs` and, for each relevant one, up to `num_negatives` passages of `corpus` with label 0.

    A passage that is paired with the query anyhow, or is the query itself, is never taken. Raises
    RunFailed(invalid_dataset) when the pairs have no passage with a low label, and none is found either.
    """
    positives = np.flatnonzero(pairs.labels >= RELEVANT_MIN)
    taken = known_passages(pairs)
    vectors = embed(corpus, "passage")
    mined: dict[int, list[str]] = {}
    for start in range(0, len(positives), _QUERIES_AT_ONCE):
        rows = positives[start : start + _QUERIES_AT_ONCE]
        queries = embed([pairs.queries[row] for row in rows], "query")
        answers = (queries * embed([pairs.passages[row] for row in rows], "passage")).sum(axis=1)
        cosines = queries @ vectors.T
        for row, scores, answer in zip(rows, cosines, answers, strict=True):
            known = taken[int(pairs.groups[row])]
            chosen = _chosen(scores, float(answer), corpus, known, settings, [seed, int(row)])
            known.update(chosen)
            mined[int(row)] = chosen
    found = pairs.with_negatives(mined)
    if not (found.labels < RELEVANT_MIN).any():
        raise RunFailed(
            Reason.invalid_dataset,
            "field hard_negatives: no passage lies below the margins, so there is nothing to tell answers from. "
            "Lower relative_margin or absolute_margin, or name an embedder in hard_negatives.model.",
        )
    return found


def pool_candidates(pairs: Pairs, corpus: Sequence[str], embed: Embed, per_system: int) -> Pairs:
    """`pairs` and, for each query, the first passages of BM25 and of the embedder, pooled, with label 0.

    As in TREC's pools: what none of the systems finds can't tell them apart, and what only one finds must count too.
    """
    taken = known_passages(pairs)
    vectors, words = embed(corpus, "passage"), Bm25(corpus)
    first_rows = [int(rows[0]) for rows in pairs.rows_by_query()]
    pooled: dict[int, list[str]] = {}
    for start in range(0, len(first_rows), _QUERIES_AT_ONCE):
        rows = first_rows[start : start + _QUERIES_AT_ONCE]
        cosines = embed([pairs.queries[row] for row in rows], "query") @ vectors.T
        for row, by_meaning in zip(rows, cosines, strict=True):
            known = taken[int(pairs.groups[row])]
            firsts = [
                _first_unknown(scores, corpus, known, per_system)
                for scores in (by_meaning, words.scores(pairs.queries[row]))
            ]
            pooled[row] = list(dict.fromkeys(passage for passages in firsts for passage in passages))
    return pairs.with_negatives(pooled)


def _first_unknown(scores: Floats, corpus: Sequence[str], known: set[str], count: int) -> list[str]:
    ranked = (corpus[place] for place in np.argsort(-scores, kind="stable")[: count + len(known)])
    return [passage for passage in ranked if passage not in known][:count]


def known_passages(pairs: Pairs) -> dict[int, set[str]]:
    """For each query's number, what is paired with it, and the query itself."""
    known: dict[int, set[str]] = {}
    for query, passage, group in zip(pairs.queries, pairs.passages, pairs.groups, strict=True):
        known.setdefault(int(group), set()).update((query, passage))
    return known


def _chosen(
    scores: Floats, answer: float, corpus: Sequence[str], known: set[str], settings: HardNegatives, seed: list[int]
) -> list[str]:
    """The negatives of one query with an answer of this cosine."""
    limit = min(
        answer * (1 - settings.relative_margin) if settings.relative_margin is not None else np.inf,
        answer - settings.absolute_margin if settings.absolute_margin is not None else np.inf,
        settings.max_score if settings.max_score is not None else np.inf,
    )
    nearest = np.argsort(-scores, kind="stable")[: settings.range_max + len(known)]
    candidates = [place for place in nearest if corpus[place] not in known][settings.range_min : settings.range_max]
    passing = [corpus[place] for place in candidates if scores[place] <= limit]
    if settings.sampling == "random":
        passing = [passing[place] for place in np.random.default_rng(seed).permutation(len(passing))]
    return passing[: settings.num_negatives]


def pair_cosines(pairs: Pairs, embed: Embed) -> Floats:
    """The cosine (N,) of each pair's query and passage."""
    queries, passages = (
        _embed_once(texts, name, embed) for texts, name in ((pairs.queries, "query"), (pairs.passages, "passage"))
    )
    return np.asarray((queries * passages).sum(axis=1), dtype=np.float32)


def _embed_once(texts: Sequence[str], prompt: str, embed: Embed) -> Floats:
    """Vectors (N, D); a text that comes again is not embedded again."""
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return embed(list(places), prompt)[[places[text] for text in texts]]
