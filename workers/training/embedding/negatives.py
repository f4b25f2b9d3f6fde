"""Hard negatives for an embedder: positives of other rows that a model ranks high for an anchor.

An anchor that has too few candidates within ranks and margins gets passages drawn by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from corpus.splits import VALIDATION
from jobspecs.kinds.hard_negatives import HardNegatives
from jobspecs.lifecycle import Reason
from jobspecs.problems import Problem
from workers.local_models.tokens import Int64s
from workers.run.context import RunFailed
from workers.training.embedding.data import EmbeddingRows
from workers.training.hard_negatives import Embed, nearest_negatives


@dataclass(frozen=True)
class Mined:
    """The rows with their negatives, and how many of these were drawn by chance."""

    rows: EmbeddingRows
    mined: int
    drawn: int


def mine_negatives(rows: EmbeddingRows, embed: Embed, settings: HardNegatives, seed: int) -> Mined:
    """Adds `num_negatives` columns to rows of anchor and positive. Only these rows' positives are candidates, and for
    rows that train only such as train.

    A text that is a positive of the same anchor, or the anchor itself, is never taken. Raises
    RunFailed(invalid_dataset) when there are fewer positives than an anchor needs negatives.
    """
    passages = np.unique(rows.columns[:, 1])
    place_of = {text: place for place, text in enumerate(passages.tolist())}
    taken = {
        anchor: np.array([place_of[text] for text in own if text in place_of], dtype=np.int64)
        for anchor, own in _known(rows).items()
    }
    training = np.isin(passages, rows.columns[rows.roles != VALIDATION, 1])
    foreign = np.flatnonzero(~training)

    def known(row: int) -> Int64s:
        own = taken[pairs[row][0]]
        return np.union1d(own, foreign) if len(foreign) and rows.roles[row] != VALIDATION else own

    if training.sum() - max(map(len, taken.values())) < settings.num_negatives:
        problem = Problem(
            field="hard_negatives",
            message=f"an anchor has fewer than {settings.num_negatives} positives of others to choose from.",
            remedy="Lower num_negatives or add rows.",
        )
        raise RunFailed(Reason.invalid_dataset, str(problem))
    texts = [rows.texts[text] for text in passages]
    pairs = rows.columns[:, :2].tolist()
    questions = [(rows.texts[anchor], place_of[positive]) for anchor, positive in pairs]
    chosen = np.zeros((len(rows), settings.num_negatives), dtype=np.int64)
    drawn = 0
    negatives = nearest_negatives(questions, texts, embed, settings, seed, known)
    for row, found in enumerate(negatives):
        missing = settings.num_negatives - len(found)
        if missing:
            drawn += missing
            found = np.append(found, _by_chance(len(passages), np.append(known(row), found), missing, [seed, row]))
        chosen[row] = passages[found]
    return Mined(rows.with_negatives(rows.texts, chosen), chosen.size - drawn, drawn)


def _known(rows: EmbeddingRows) -> dict[int, set[int]]:
    """Anchor -> itself and its positives, as numbers of texts."""
    known: dict[int, set[int]] = {}
    for anchor, positive in rows.columns[:, :2].tolist():
        known.setdefault(anchor, {anchor}).add(positive)
    return known


def _by_chance(passages: int, taken: Int64s, count: int, seed: list[int]) -> Int64s:
    others = np.setdiff1d(np.arange(passages), taken)
    return np.random.default_rng(seed).choice(others, size=count, replace=False)
