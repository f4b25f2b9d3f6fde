"""Passages that a cross-encoder learns to put below the answer, and those that it is judged by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from corpus.bootstrap import Between, no_stop
from corpus.rankings import RELEVANT_MIN
from corpus.splits import VALIDATION
from jobspecs.kinds.hard_negatives import HardNegatives
from jobspecs.lifecycle import Reason
from workers.judging.bm25 import Bm25
from workers.judging.waiting import waited_for
from workers.local_models.tokens import Int64s
from workers.run.context import RunFailed
from workers.training.hard_negatives import QUESTIONS_AT_ONCE, Embed, Floats, Side, nearest_negatives
from workers.training.ranking.data import Pairs


def mine_negatives(pairs: Pairs, corpus: Sequence[str], embed: Embed, settings: HardNegatives, seed: int) -> Pairs:
    """`pairs` and, for each relevant one, up to `num_negatives` passages of `corpus` with label 0.

    `corpus` holds all passages of the relevant pairs. A passage that is paired with the query anyhow, or is the query
    itself, is never taken, nor for a pair that trains one of pairs that choose alone. Raises
    RunFailed(invalid_dataset) when the pairs have no passage with a low label, and none is found either.
    """
    positives = np.flatnonzero(pairs.labels >= RELEVANT_MIN).tolist()
    place_of = {passage: place for place, passage in enumerate(corpus)}
    taken = known_passages(pairs)

    choosing = (pairs.roles == VALIDATION).tolist()
    of_parts = [
        {text for text, chooses in zip(pairs.passages, choosing, strict=True) if chooses == part}
        for part in (False, True)
    ]
    foreign = np.array([place_of[text] for text in of_parts[1] - of_parts[0] if text in place_of], dtype=np.int64)

    def known(number: int) -> Int64s:
        row = positives[number]
        texts = taken[int(pairs.groups[row])]
        own = np.array([place_of[text] for text in texts if text in place_of], dtype=np.int64)
        return np.union1d(own, foreign) if len(foreign) and not choosing[row] else own

    questions = [(pairs.queries[row], place_of[pairs.passages[row]]) for row in positives]
    mined: dict[int, list[str]] = {}
    for row, places in zip(positives, nearest_negatives(questions, corpus, embed, settings, seed, known), strict=True):
        mined[row] = [corpus[place] for place in places]
        taken[int(pairs.groups[row])].update(mined[row])
    found = pairs.with_negatives(mined)
    if not (found.labels < RELEVANT_MIN).any():
        raise RunFailed(
            Reason.invalid_dataset,
            "field hard_negatives: no passage lies below the margins, so there is nothing to tell answers from. "
            "Lower relative_margin or absolute_margin, or name an embedder in hard_negatives.model.",
        )
    return found


def pool_candidates(
    pairs: Pairs, corpus: Sequence[str], embed: Embed, per_system: int, between: Between = no_stop
) -> Pairs:
    """`pairs` and, for each query, the first passages of BM25 and of the embedder, pooled, with label 0.

    As in TREC's pools: what none of the systems finds can't tell them apart, and what only one finds must count too.
    `between` is called all the time while words are indexed, and may raise to stop.
    """
    taken = known_passages(pairs)
    vectors, words = embed(corpus, "passage"), waited_for(lambda: Bm25(corpus), between)
    first_rows = [int(rows[0]) for rows in pairs.rows_by_query()]
    pooled: dict[int, list[str]] = {}
    for start in range(0, len(first_rows), QUESTIONS_AT_ONCE):
        rows = first_rows[start : start + QUESTIONS_AT_ONCE]
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


def pair_cosines(pairs: Pairs, embed: Embed) -> Floats:
    """The cosine (N,) of each pair's query and passage."""
    queries = _embed_once(pairs.queries, "query", embed)
    passages = _embed_once(pairs.passages, "passage", embed)
    return np.asarray((queries * passages).sum(axis=1), dtype=np.float32)


def _embed_once(texts: Sequence[str], prompt: Side, embed: Embed) -> Floats:
    """Vectors (N, D); a text that comes again is not embedded again."""
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return embed(list(places), prompt)[[places[text] for text in texts]]
