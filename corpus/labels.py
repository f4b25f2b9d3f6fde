"""Classes of rows: which spellings are one, and texts that stand with several. Checks and jobs call these functions."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from corpus.splits import Indices, SplitRows
from jobspecs.kinds.train_classifier import ClassMetric
from jobspecs.kinds.training import CHOOSING_ROWS_MIN
from jobspecs.labels import normalized, spellings
from jobspecs.problems import InvalidInput, Problem

#: So many classes with several spellings, and spellings of each, are named; the others are counted.
_NAMED_MAX = 5


@dataclass(frozen=True)
class Contradictions:
    """Texts that stand with several classes, and positions of two rows of the first of them."""

    texts: int
    rows: tuple[int, int]


def contradictions(texts: Indices, labels: Indices) -> Contradictions | None:
    """`texts` (N,) numbers the texts of rows, `labels` (N,) their classes; None when every text has one class."""
    order = np.lexsort((labels, texts))
    text, label = texts[order], labels[order]
    changes = np.flatnonzero((text[1:] == text[:-1]) & (label[1:] != label[:-1]))
    if not len(changes):
        return None
    pairs = np.sort(np.stack([order[changes], order[changes + 1]], axis=1), axis=1)
    first, second = pairs[pairs[:, 0].argmin()].tolist()
    return Contradictions(len(np.unique(text[changes])), (first, second))


def one_spelling(labels: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The labels (N,) with each class named as most rows write it, and which ones that renamed."""
    names = normalized(Counter(labels))
    return [names[label] for label in labels], {label: name for label, name in names.items() if label != name}


def spelling_warning(
    counts: Mapping[str, int],
    first_rows: Mapping[str, int],
    row_name: Callable[[int], str],
    located: Callable[[Problem, int], Problem],
) -> Problem | None:
    """Classes that are written in several ways. `counts` and `first_rows`: rows of each label, and its first position.

    `row_name` and `located` of a position: what people call the row, and a problem said of it.
    """
    several = spellings(counts)
    if not several:
        return None
    named = [
        " = ".join(f"{_shown(label)} (row {row_name(first_rows[label])})" for label in labels) for labels in several
    ]
    more = f" and {len(several) - _NAMED_MAX} more classes" if len(several) > _NAMED_MAX else ""
    problem = Problem(
        field="label",
        message=f"labels that mean the same are different classes: {'; '.join(named[:_NAMED_MAX])}{more}.",
        remedy="Write each class in one way, or set data: {normalize_labels: true}.",
    )
    return located(problem, first_rows[several[0][-1]])


def contradiction_warning(
    found: Contradictions, row_name: Callable[[int], str], located: Callable[[Problem, int], Problem]
) -> Problem:
    """`row_name` and `located` of a position: what people call the row, and a problem said of it."""
    first, second = map(row_name, found.rows)
    texts = "1 text stands" if found.texts == 1 else f"{found.texts:,} texts stand"
    problem = Problem(
        field="label",
        message=f"{texts} with several classes, the first in rows {first} and {second}: no model can get both right.",
        remedy="Correct the labels, or leave these rows out.",
    )
    return located(problem, found.rows[1])


def one_class_held_out(labels: Indices, classes: Sequence[str]) -> str | None:
    """What to say where all held-out rows, with positions in `classes` (N,), are of one; None where they are not."""
    held_out = np.unique(labels)
    if len(held_out) > 1:
        return None
    name = _shown(classes[int(held_out[0])])
    return f"All held-out rows are {name}: that says nothing of how well classes are told apart."


def held_out_warning(labels: Indices, classes: Sequence[str], metric: ClassMetric) -> Problem | None:
    """Raises InvalidInput where the metric can't be had of held-out rows with these positions in `classes` (N,)."""
    said = one_class_held_out(labels, classes)
    if said is None:
        return None
    problem = Problem(field="validation", message=said, remedy="Hold out rows of every class.")
    if metric == "roc_auc":
        raise InvalidInput([problem])
    return problem


@dataclass(frozen=True)
class Twins:
    """Of classes that are learnt by comparing their texts: which have one text to train on, and none beside it."""

    classes: int = 0
    alone: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """In plain words; empty where every class has two."""
        if not self.alone:
            return ""
        named = ", ".join(map(_shown, self.alone[:_NAMED_MAX])) + (", …" if len(self.alone) > _NAMED_MAX else "")
        return (
            f"{len(self.alone):,} of {self.classes:,} classes have one text to train on ({named}): nothing to be near."
        )


def twins_of(split: SplitRows, labels: Indices, classes: Sequence[str]) -> Twins:
    """`labels` (N,): positions in `classes`. Raises InvalidInput when no class has two texts to train on, or to judge.

    A text whose class has no other can only be pushed away from all.
    """
    train, judging = (np.bincount(labels[side], minlength=len(classes)) for side in (split.train, split.validation))
    if (train > 1).sum() < 2:
        message = (
            f"of {len(split.train)} texts to train on, not two of each of two classes: there is no pair to compare."
        )
        raise _unpaired("label", message, "Add texts of each class, or lower validation.fraction.")
    if not (judging > 1).any():
        message = f"no class has two of the {len(split.validation)} held-out texts: there is nothing to judge by."
        raise _unpaired("validation.fraction", message, "Raise validation.fraction or add rows.")
    return Twins(int((train > 0).sum()), tuple(classes[place] for place in np.flatnonzero(train == 1).tolist()))


def twins_warnings(twins: Twins) -> list[Problem]:
    """What of it a check warns of."""
    if not twins.alone:
        return []
    return [Problem(field="label", message=twins.sentence, remedy="Add texts of these classes, or leave them out.")]


def choosing_twins_warnings(labels: Indices) -> list[Problem]:
    """What a check says where rows that choose, with these classes (N,), have too few twins to be looked at."""
    looked = 2 * int((np.unique(labels, return_counts=True)[1] // 2).sum())
    if not looked < CHOOSING_ROWS_MIN <= len(labels):
        return []
    message = (
        f"of {len(labels):,} rows of validation {looked} have another one of their class beside them: they decide "
        "nothing, and training ends as without them."
    )
    return [Problem(field="validation", message=message, remedy="Name more rows of each class, or leave it out.")]


def _unpaired(field: str, message: str, remedy: str) -> InvalidInput:
    return InvalidInput([Problem(field=field, message=message, remedy=remedy)])


def _shown(label: str) -> str:
    """With escapes where two labels would look alike."""
    return repr(label) if unicodedata.is_normalized("NFC", label) else ascii(label)
