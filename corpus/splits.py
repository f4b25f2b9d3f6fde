"""Which rows are held out. The runner and the check before it call these functions, so they can't differ.

All of them depend on the seed and their arguments alone, and return sorted positions: int64 arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from jobspecs.kinds.train_classifier import ROWS_PER_CLASS_MIN
from jobspecs.problems import InvalidInput, Problem

#: Classes that a refusal names.
CLASSES_NAMED = 10

Indices = npt.NDArray[np.int64]
#: (N,) what the spec says of rows: VALIDATION, TEST or 0.
Roles = npt.NDArray[np.int8]
VALIDATION, TEST = 1, 2


@dataclass(frozen=True)
class SplitRows:
    """Positions of the rows that train and of those that judge, each sorted.

    `validation`: those that judge, be they of the section `validation` or of `test`.
    """

    train: Indices
    validation: Indices
    #: Rows that do neither, because they would join the sides.
    left_out: int = 0
    #: Rows of the section `validation`, where others judge.
    choosing: Indices = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def choosing_too(self, texts: Indices) -> int:
        """Rows that judge and have a text, numbered by `texts` (N,), that chooses too."""
        return int(np.isin(texts[self.validation], texts[self.choosing]).sum())

    @property
    def fitting(self) -> tuple[Indices, Roles]:
        """The rows that train, then those that choose; and what they are: 0, then VALIDATION."""
        roles = np.repeat(np.array([0, VALIDATION], dtype=np.int8), (len(self.train), len(self.choosing)))
        return np.concatenate([self.train, self.choosing]), roles


def stratified_split(
    labels: Indices,
    classes: Sequence[str],
    *,
    rows: int | None,
    fraction: float,
    seed: int,
    stratify: bool = True,
    texts: Indices | None = None,
) -> SplitRows:
    """A stratified sample of `rows` rows (all when None), then the held-out `fraction`. `labels` (N,): classes of rows.

    Rows with the same number in `texts` (N,) are on one side, and every class trains. Raises InvalidInput when a class
    has too few rows for both parts, and when too few texts differ.
    """
    generator = np.random.default_rng(seed)
    chosen = np.arange(len(labels))
    if rows is not None and rows < len(labels):
        chosen = _sample(labels, classes, rows, generator)
        labels = labels[chosen]
    _check_class_sizes(labels, classes)
    tied = np.arange(len(labels)) if texts is None else np.unique(texts[chosen], return_inverse=True)[1]
    held_out = _held_out(labels, len(classes), tied, fraction, stratify, generator)
    if not held_out.any():
        raise too_few("too few texts differ: none is left to judge by.")
    return SplitRows(train=chosen[~held_out], validation=chosen[held_out])


def given_split(
    judging: npt.NDArray[np.bool_],
    *,
    rows: int | None,
    seed: int,
    groups: Indices | None = None,
    classes: Sequence[str] = (),
) -> SplitRows:
    """The rows that judge are given: `judging` (N,). All others train, or a random sample of `rows` of them.

    `groups` (N,): rows of a group are sampled together; with `classes`, their names, in proportion instead. Raises
    InvalidInput when no row is left to train or to judge, or one that judges has a class that no other row has.
    """
    train, validation = np.flatnonzero(~judging), np.flatnonzero(judging)
    if not len(validation):
        raise too_few("no row is left to judge by.")
    if not len(train):
        raise too_few("all rows judge: none is left to train on.")
    if groups is not None and classes:
        check_known(groups[train], groups[validation], classes)
    if rows is not None and rows < len(train):
        generator = np.random.default_rng(seed)
        if groups is None:
            chosen = generator.permutation(len(train))[:rows]
        elif classes:
            chosen = _sample(groups[train], classes, rows, generator)
        else:
            order = generator.permutation(len(train))
            chosen = np.flatnonzero(whole_groups(np.unique(groups[train], return_inverse=True)[1], order, rows))
        train = np.sort(train[chosen])
        if not len(train):
            raise too_few(f"a sample of {rows} rows holds no whole query to train on.")
    return SplitRows(train=train, validation=validation)


def check_known(train: Indices, validation: Indices, classes: Sequence[str]) -> None:
    """Raises InvalidInput when one that judges has a class that no other row has: labels (N,) and (M,)."""
    unknown = [classes[label] for label in np.setdiff1d(validation, train).tolist()]
    if unknown:
        named = ", ".join(map(repr, unknown[:CLASSES_NAMED]))
        raise InvalidInput(
            [
                Problem(
                    field="label",
                    message=f"rows that judge have {len(unknown)} classes that no row to train on has: {named}.",
                    remedy="Correct their spelling, add rows of these classes to train on, or leave them out.",
                )
            ]
        )


def prompt_split(
    tied: Indices, *, rows: int | None, fraction: float, seed: int, validation_max: int | None = None
) -> SplitRows:
    """A random sample of `rows` rows (all when None), of which `fraction` is held out, at most a maximum.

    `tied` (N, 2): numbers of each row's content and of its prompt. Rows with the same prompt go to the same side;
    where that ties most rows together, as one instruction for all does, only equal rows do. Raises InvalidInput when
    there are fewer than two rows, or all are equal.
    """
    order = np.random.default_rng(seed).permutation(len(tied))[:rows]
    if len(order) < 2:
        raise too_few(f"{len(order)} row can be used; two are needed, to train and to judge.")
    wanted = min(max(1, round(len(order) * fraction)), len(order) - 1, validation_max or len(order))
    contents, places = np.unique(tied[order, 0], return_inverse=True)[1], np.arange(len(order))
    held_out = whole_groups(connected(tied[order]), places, wanted)
    if 2 * held_out.sum() < wanted:
        held_out = whole_groups(contents, places, wanted)
    if not held_out.any():
        raise too_few("all rows are equal: none is left to judge by.")
    return SplitRows(train=np.sort(order[~held_out]), validation=np.sort(order[held_out]))


def grouped_split(groups: Indices, *, rows: int | None, fraction: float, seed: int) -> SplitRows:
    """Whole groups up to `rows` rows (all when None), of which a `fraction` is held out.

    `groups` (N,): the group of each row, counted from 0 without gaps. Raises InvalidInput for fewer than two groups.
    """
    sizes = np.bincount(groups) if len(groups) else np.zeros(0, np.int64)
    order = np.random.default_rng(seed).permutation(len(sizes))
    if rows is not None:
        order = order[: max(2, int(np.searchsorted(np.cumsum(sizes[order]), rows, side="right")))]
    if len(order) < 2:
        raise InvalidInput(
            [
                Problem(
                    field="query",
                    message="all rows have the same query: none is left to judge by.",
                    remedy="Choose the column with the queries, or push more data.",
                )
            ]
        )
    held_out = min(len(order) - 1, max(1, round(len(order) * fraction)))
    side = np.zeros(len(sizes), dtype=np.int8)
    side[order[:held_out]], side[order[held_out:]] = 2, 1
    of_row = side[groups]
    return SplitRows(train=np.flatnonzero(of_row == 1), validation=np.flatnonzero(of_row == 2))


def connected_split(texts: Indices, *, rows: int | None, fraction: float, seed: int) -> SplitRows:
    """A random sample of `rows` rows (all when None), of which a `fraction` is held out in groups of rows.

    `texts` (N, 2): numbers of each row's texts. Rows that share one, directly or through others, go to the same side;
    where that ties most rows together, only rows with the same first text do. Raises InvalidInput when all have it.
    """
    generator = np.random.default_rng(seed)
    chosen = np.arange(len(texts))
    if rows is not None and rows < len(texts):
        chosen = np.sort(generator.permutation(len(texts))[:rows])
        texts = texts[chosen]
    if len(texts) < 2:
        raise too_few(f"{len(texts)} row can be used; two are needed, to train and to judge.")
    wanted = min(len(texts) - 1, max(1, round(len(texts) * fraction)))
    order = generator.permutation(len(texts))
    held_out = whole_groups(connected(texts), order, wanted)
    if 2 * held_out.sum() < wanted:
        held_out = whole_groups(np.unique(texts[:, 0], return_inverse=True)[1], order, wanted)
    if not held_out.any():
        raise too_few("all rows share their first text: none is left to judge by.")
    return SplitRows(train=chosen[~held_out], validation=chosen[held_out])


def connected(texts: Indices) -> Indices:
    """(N,) the group of each row of `texts` (N, K), counted from 0: equal for rows that share one, also by others."""
    # In arrays: Python's own sets of ten million texts take 3 GB, and a check may take 4 GiB.
    numbers = np.unique(texts, return_inverse=True)[1].reshape(texts.shape)
    roots = np.arange(numbers.max() + 1 if len(texts) else 0)
    while True:
        least = roots[numbers].min(axis=1) if len(texts) else roots
        before = roots.copy()
        for column in numbers.T:
            np.minimum.at(roots, before[column], least)
        while not np.array_equal(further := roots[roots], roots):
            roots = further
        if np.array_equal(roots, before):
            return np.unique(roots[numbers[:, 0]], return_inverse=True)[1].astype(np.int64)


def whole_groups(groups: Indices, order: Indices, wanted: int) -> npt.NDArray[np.bool_]:
    """(N,) true for whole groups, by chance, up to `wanted` rows."""
    sizes = np.bincount(groups)
    chosen = np.zeros(len(sizes), dtype=bool)
    taken = 0
    for row in np.sort(np.unique(groups[order], return_index=True)[1]):
        group = groups[order[row]]
        if taken + sizes[group] <= wanted:
            chosen[group] = True
            taken += int(sizes[group])
            if taken == wanted:
                break
    return chosen[groups]


def shares(counts: Sequence[int], total: int, least: int) -> list[int]:
    """`total` places dealt in proportion to `counts`, at least `least` and at most count each (largest remainders)."""
    exact = [count * total / sum(counts) for count in counts]
    dealt = [min(count, max(least, int(share))) for count, share in zip(counts, exact, strict=True)]
    by_remainder = sorted(range(len(counts)), key=lambda i: (int(exact[i]) - exact[i], i))
    while sum(dealt) < total:
        open_places = [i for i in by_remainder if dealt[i] < counts[i]]
        for i in open_places[: total - sum(dealt)]:
            dealt[i] += 1
    while sum(dealt) > total and any(share > least for share in dealt):
        dealt[max(range(len(dealt)), key=lambda i: (dealt[i], i))] -= 1
    return dealt


def too_few(message: str) -> InvalidInput:
    return InvalidInput([Problem(field="dataset", message=message, remedy="Push more rows.")])


def _sample(labels: Indices, classes: Sequence[str], rows: int, generator: np.random.Generator) -> Indices:
    if rows < ROWS_PER_CLASS_MIN * len(classes):
        raise InvalidInput(
            [
                Problem(
                    field="rows",
                    message=f"{rows} rows can't hold {ROWS_PER_CLASS_MIN} of each of {len(classes)} classes.",
                    remedy="Raise rows, or leave it out to use them all.",
                )
            ]
        )
    return _stratified(labels, len(classes), rows, ROWS_PER_CLASS_MIN, generator)


def _held_out(
    labels: Indices, classes: int, tied: Indices, fraction: float, stratify: bool, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """(N,) true for held-out rows. Of each class some text trains, and one is held out where it has two."""
    rows = min(len(labels) - 1, max(1, round(len(labels) * fraction)))
    if not stratify:
        return whole_groups(tied, generator.permutation(len(labels)), rows)
    rows = min(max(rows, classes), len(labels) - classes)
    # A text with several classes counts for the one of its first row.
    owner = labels[np.unique(tied, return_index=True)[1]][tied]
    members = [np.flatnonzero(owner == label) for label in range(classes)]
    bound = [texts[0] for label in range(classes) if len(texts := np.unique(tied[labels == label])) == 1]
    held_out = np.zeros(len(labels), dtype=bool)
    dealt = shares([max(0, len(group) - 1) for group in members], rows, 1)
    for group, share in zip(members, dealt, strict=True):
        order = generator.permutation(group)
        free = order[~np.isin(tied[order], bound)]
        if not len(free):
            continue
        texts = np.unique(tied[free], return_inverse=True)[1]
        taken = whole_groups(texts, np.arange(len(free)), share)
        if not taken.any() and len(np.unique(tied[order])) > 1:
            taken = texts == np.bincount(texts).argmin()
        held_out[free] = taken
    return _every_class_trains(held_out, labels, classes, tied)


def _every_class_trains(
    held_out: npt.NDArray[np.bool_], labels: Indices, classes: int, tied: Indices
) -> npt.NDArray[np.bool_]:
    for label in range(classes):
        own = labels == label
        if held_out[own].all():
            held_out = held_out & ~np.isin(tied, tied[own])
    return held_out


def _stratified(labels: Indices, classes: int, rows: int, least: int, generator: np.random.Generator) -> Indices:
    members = [np.flatnonzero(labels == label) for label in range(classes)]
    dealt = shares([len(group) for group in members], rows, least)
    chosen = [generator.permutation(group)[:share] for group, share in zip(members, dealt, strict=True)]
    return np.sort(np.concatenate(chosen))


def _check_class_sizes(labels: Indices, classes: Sequence[str]) -> None:
    counts = np.bincount(labels, minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if count < ROWS_PER_CLASS_MIN:
            raise InvalidInput(
                [
                    Problem(
                        field="label",
                        message=f"class {name!r} has {count} row; "
                        f"it needs {ROWS_PER_CLASS_MIN}, to train and to validate.",
                        remedy="Add rows of that class or leave it out.",
                    )
                ]
            )
