"""Classes of rows: which spellings are one, and texts that stand with several. Checks and jobs call these functions."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from corpus.splits import Indices
from jobspecs.labels import normalized, spellings
from jobspecs.problems import Problem

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
    counts: Mapping[str, int], first_rows: Mapping[str, int], row_name: Callable[[int], str] = str
) -> Problem | None:
    """Classes that are written in several ways. `counts` and `first_rows`: rows of each label, and its first row."""
    several = spellings(counts)
    if not several:
        return None
    named = [
        " = ".join(f"{_shown(label)} (row {row_name(first_rows[label])})" for label in labels) for labels in several
    ]
    more = f" and {len(several) - _NAMED_MAX} more classes" if len(several) > _NAMED_MAX else ""
    return Problem(
        field="label",
        row=first_rows[several[0][-1]],
        message=f"labels that mean the same are different classes: {'; '.join(named[:_NAMED_MAX])}{more}.",
        remedy="Write each class in one way, or set data: {normalize_labels: true}.",
    )


def contradiction_warning(
    found: Contradictions, numbers: Sequence[int], row_name: Callable[[int], str] = str
) -> Problem:
    """`numbers`: of the data rows at the positions."""
    rows = [numbers[position] for position in found.rows]
    first, second = map(row_name, rows)
    texts = "1 text stands" if found.texts == 1 else f"{found.texts:,} texts stand"
    return Problem(
        field="label",
        row=rows[1],
        message=f"{texts} with several classes, the first in rows {first} and {second}: no model can get both right.",
        remedy="Correct the labels, or leave these rows out.",
    )


def _shown(label: str) -> str:
    """With escapes where two labels would look alike."""
    return repr(label) if unicodedata.is_normalized("NFC", label) else ascii(label)
