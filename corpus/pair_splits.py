"""How rows of two texts and more are held out, and which texts are on both sides. Checks and jobs call these functions.

`texts` (N, K) number the texts of rows. All depends on the seed and the arguments alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from corpus.splits import (
    Indices,
    SplitRows,
    connected,
    connected_split,
    given_split,
    grouped_split,
    too_few,
    whole_groups,
)
from jobspecs.data_report import FieldOverlap, Overlap
from jobspecs.kinds.training import PairValidation
from jobspecs.problems import InvalidInput, Problem

Bools = npt.NDArray[np.bool_]


def query_split(
    validation: PairValidation, *, rows: int | None, judging: Bools, queries: Indices, texts: Indices
) -> SplitRows:
    """Whole queries up to `rows` rows, of which a share is held out; `judging` (N,) says which where the spec does.

    `queries` (N,) number those of rows from 0 without gaps. Raises InvalidInput when a side would be empty.
    """
    if validation.given:
        split = given_split(judging, rows=rows, seed=validation.seed, groups=queries)
        return _without_joining(split, texts) if validation.by == "both" else split
    if validation.by == "both":
        return _apart(validation, rows, queries, texts)
    return grouped_split(queries, rows=rows, fraction=validation.fraction, seed=validation.seed)


def tied_split(
    validation: PairValidation, *, rows: int | None, judging: Bools, texts: Indices, own: Indices
) -> SplitRows:
    """A random sample of `rows` rows, of which a share is held out; `judging` (N,) says which where the spec does.

    `own` (N, 2): the texts that tie rows together unless all do. Raises InvalidInput when a side would be empty.
    """
    if validation.given:
        split = given_split(judging, rows=rows, seed=validation.seed)
        return _without_joining(split, texts) if validation.by == "both" else split
    if validation.by == "both":
        return _apart(validation, rows, np.arange(len(texts)), texts)
    return connected_split(own, rows=rows, fraction=validation.fraction, seed=validation.seed)


def overlap_of(split: SplitRows, texts: Indices, fields: Sequence[str]) -> Overlap:
    """Of each field of the spec (K), the different texts that judge and how many of them are trained on."""
    known = np.unique(texts[split.train])
    found = []
    for field in dict.fromkeys(fields):
        own = np.unique(texts[split.validation][:, [name == field for name in fields]])
        found.append(FieldOverlap(field=field, held_out=len(own), trained_on=int(np.isin(own, known).sum())))
    return Overlap(fields=tuple(found), left_out=split.left_out)


def _apart(validation: PairValidation, rows: int | None, groups: Indices, texts: Indices) -> SplitRows:
    """No text is on both sides.

    Whole groups of rows that share texts are held out where that is possible. Where most rows are tied together, as
    when all queries have the same passages, texts are dealt to the sides, and a row needs all of its own on one.
    """
    generator = np.random.default_rng(validation.seed)
    chosen = np.arange(len(texts))
    if rows is not None and rows < len(texts):
        order = generator.permutation(len(texts))
        chosen = np.flatnonzero(whole_groups(np.unique(groups, return_inverse=True)[1], order, rows))
        texts = texts[chosen]
    if len(texts) < 2:
        raise too_few(f"{len(texts)} row can be used; two are needed, to train and to judge.")
    share = validation.fraction
    wanted = min(len(texts) - 1, max(1, round(len(texts) * share)))
    judges = whole_groups(connected(texts), generator.permutation(len(texts)), wanted)
    trains = ~judges
    if 2 * judges.sum() < wanted:
        texts = _by_appearance(texts)
        held_out = np.isin(texts, _dealt(texts, share, generator))
        judges, trains = np.all(held_out, axis=1), ~np.any(held_out, axis=1)
    if not judges.any() or not trains.any():
        raise _inseparable()
    left_out = int((~judges & ~trains).sum())
    return SplitRows(chosen[trains], chosen[judges], left_out)


def _by_appearance(texts: Indices) -> Indices:
    """The same texts, numbered as they appear: what is drawn must not depend on who numbered them."""
    _, first, places = np.unique(texts, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[places].reshape(texts.shape)


def _dealt(texts: Indices, share: float, generator: np.random.Generator) -> Indices:
    """Held-out texts, of the first ones and of the others each so many that the rows with both are the wanted share."""
    of_each = 1 / (1 + ((1 - share) / share) ** 0.5)
    first = np.unique(texts[:, 0])
    sides = (first, np.setdiff1d(texts[:, 1:], first))
    return np.concatenate([generator.permutation(side)[: max(1, round(of_each * len(side)))] for side in sides])


def _without_joining(split: SplitRows, texts: Indices) -> SplitRows:
    """Without rows to train on that share a text with one that judges."""
    joining = np.isin(texts[split.train], texts[split.validation]).any(axis=1)
    if joining.all():
        raise _inseparable()
    return replace(split, train=split.train[~joining], left_out=int(joining.sum()))


def _inseparable() -> InvalidInput:
    problem = Problem(
        field="validation.by",
        message="the rows share so many texts that none is left to train on or to judge by when both sides are apart.",
        remedy="Write by: first, or push rows with other texts.",
    )
    return InvalidInput([problem])
