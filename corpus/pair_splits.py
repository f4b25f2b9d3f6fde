"""How rows of two texts and more are held out, and which texts are on both sides. Checks and jobs call these functions.

`texts` (N, K) number the texts of rows. All depends on the seed and the arguments alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from corpus.dealing import Share, dealt
from corpus.splits import (
    Indices,
    Roles,
    SplitRows,
    connected,
    connected_split,
    given_split,
    grouped_split,
    too_few,
    whole_groups,
)
from jobspecs.data_report import FieldOverlap, Overlap
from jobspecs.kinds.train_embedder import TrainEmbedder
from jobspecs.kinds.train_reranker import TrainReranker
from jobspecs.problems import InvalidInput, Problem

PairSpec = TrainEmbedder | TrainReranker
Bools = npt.NDArray[np.bool_]


def query_split(spec: PairSpec, *, roles: Roles, queries: Indices, texts: Indices) -> SplitRows:
    """Whole queries up to `spec.rows` rows, of which a share is held out, or the rows that have `roles` (N,).

    `queries` (N,) number those of rows from 0 without gaps. Raises InvalidInput when a side would be empty.
    """
    validation, rows = spec.validation, spec.rows

    def given(held_out: Bools, places: Indices) -> SplitRows:
        return given_split(held_out, rows=rows, seed=validation.seed, groups=queries[places])

    def drawn(places: Indices, share: Share) -> SplitRows:
        groups = np.unique(queries[places], return_inverse=True)[1]
        if validation.by == "both":
            return _apart(share, rows, groups, texts[places])
        return grouped_split(groups, rows=rows, fraction=share.fraction, seed=share.seed)

    return _apart_where_wanted(spec, dealt(spec, roles, given, drawn), texts)


def tied_split(spec: PairSpec, *, roles: Roles, texts: Indices, own: Indices) -> SplitRows:
    """A random sample of `spec.rows` rows, of which a share is held out, or the rows that have `roles` (N,).

    `own` (N, 2): the texts that tie rows together unless all do. Raises InvalidInput when a side would be empty.
    """
    validation, rows = spec.validation, spec.rows

    def given(held_out: Bools, places: Indices) -> SplitRows:
        return given_split(held_out, rows=rows, seed=validation.seed)

    def drawn(places: Indices, share: Share) -> SplitRows:
        if validation.by == "both":
            return _apart(share, rows, np.arange(len(places)), texts[places])
        return connected_split(own[places], rows=rows, fraction=share.fraction, seed=share.seed)

    return _apart_where_wanted(spec, dealt(spec, roles, given, drawn), texts)


def _apart_where_wanted(spec: PairSpec, split: SplitRows, texts: Indices) -> SplitRows:
    """Rows that were drawn with `by: both` are apart already."""
    if spec.validation.by == "both" and (spec.validation.given or spec.test is not None):
        return _without_joining(split, texts)
    return split


def overlap_of(split: SplitRows, texts: Indices, fields: Sequence[str]) -> Overlap:
    """Of each field of the spec (K), the different texts that judge and how many of them are trained on."""
    known = np.unique(texts[split.train])
    found = []
    for field in dict.fromkeys(fields):
        own = np.unique(texts[split.validation][:, [name == field for name in fields]])
        found.append(FieldOverlap(field=field, held_out=len(own), trained_on=int(np.isin(own, known).sum())))
    return Overlap(fields=tuple(found), left_out=split.left_out)


def _apart(share: Share, rows: int | None, groups: Indices, texts: Indices) -> SplitRows:
    """No text is on both sides.

    Whole groups of rows that share texts are held out where that is possible. Where most rows are tied together, as
    when all queries have the same passages, texts are dealt to the sides, and a row needs all of its own on one.
    """
    generator = np.random.default_rng(share.seed)
    chosen = np.arange(len(texts))
    if rows is not None and rows < len(texts):
        order = generator.permutation(len(texts))
        chosen = np.flatnonzero(whole_groups(np.unique(groups, return_inverse=True)[1], order, rows))
        texts = texts[chosen]
    if len(texts) < 2:
        raise too_few(f"{len(texts)} row can be used; two are needed, to train and to judge.")
    wanted = min(len(texts) - 1, max(1, round(len(texts) * share.fraction)))
    judges = whole_groups(connected(texts), generator.permutation(len(texts)), wanted)
    trains = ~judges
    if 2 * judges.sum() < wanted:
        texts = _by_appearance(texts)
        held_out = np.isin(texts, _dealt(texts, share.fraction, generator))
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
    """Held-out texts, of the first ones and of the others each so many that rows with all of theirs are the share."""
    of_each = 1 / (1 + ((1 - share) / share) ** (1 / texts.shape[1]))
    first = np.unique(texts[:, 0])
    sides = (first, np.setdiff1d(texts[:, 1:], first))
    return np.concatenate([generator.permutation(side)[: max(1, round(of_each * len(side)))] for side in sides])


def _without_joining(split: SplitRows, texts: Indices) -> SplitRows:
    """Without rows that choose and share a text with one that judges, and rows that train and share one with either."""
    meeting = np.isin(texts[split.choosing], texts[split.validation]).any(axis=1)
    choosing = split.choosing[~meeting]
    joining = np.isin(texts[split.train], texts[np.concatenate([split.validation, choosing])]).any(axis=1)
    if joining.all():
        raise _inseparable()
    left_out = split.left_out + int(meeting.sum()) + int(joining.sum())
    return replace(split, train=split.train[~joining], choosing=choosing, left_out=left_out)


def _inseparable() -> InvalidInput:
    problem = Problem(
        field="validation.by",
        message="the rows share so many texts that none is left to train on or to judge by when both sides are apart.",
        remedy="Write by: first, or push rows with other texts.",
    )
    return InvalidInput([problem])
