"""Labelled texts: read from a table, sampled and split in a way that depends on the seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jobspecs.kinds.train_classifier import ROWS_PER_CLASS_MIN, StratifiedValidation, TrainClassifier
from jobspecs.lifecycle import Reason
from jobspecs.problems import InvalidInput, Problem
from storage.tabular import detect_format, read_rows
from workers.runners.context import RunFailed

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with their classes. `classes` is sorted; `labels` (N,) are positions in it."""

    texts: tuple[str, ...]
    labels: Indices
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def subset(self, rows: Indices) -> LabelledTexts:
        """These rows, in this order, with the same classes."""
        return LabelledTexts(tuple(self.texts[row] for row in rows), self.labels[rows], self.classes)


@dataclass(frozen=True)
class Split:
    """The rows that train and the rows that judge."""

    train: LabelledTexts
    validation: LabelledTexts

    @property
    def texts_in_both(self) -> int:
        """Validation rows whose text is also in the training part: they flatter every system alike."""
        known = set(self.train.texts)
        return sum(text in known for text in self.validation.texts)


def load_texts(path: Path, text_column: str, label_column: str, header: Sequence[str] | None = None) -> LabelledTexts:
    """Reads the two columns. Raises RunFailed(invalid_dataset) with file and row for cells that can't be used.

    `header` names the columns of a file that doesn't do so itself.
    """
    texts: list[str] = []
    names: list[str] = []
    try:
        rows = read_rows(path, detect_format(path.name, header), [text_column, label_column])
        for number, row in enumerate(rows, start=1):
            texts.append(_cell(row[text_column], text_column, path, number))
            names.append(_cell(row[label_column], label_column, path, number))
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error
    classes = tuple(sorted(set(names)))
    if len(classes) < 2:
        found = f"one class only ({classes[0]!r})" if classes else "no rows"
        raise _invalid(
            Problem(
                file=path.name,
                field="label",
                message=f"column {label_column!r} has {found}.",
                remedy="Add rows of at least two classes.",
            )
        )
    index = {name: position for position, name in enumerate(classes)}
    return LabelledTexts(tuple(texts), np.array([index[name] for name in names], dtype=np.int64), classes)


def sample_and_split(texts: LabelledTexts, spec: TrainClassifier) -> Split:
    """A stratified sample of `spec.rows` rows, then the held-out part. Depends on `validation.seed` and the data only.

    Raises RunFailed(invalid_dataset) when a class has too few rows for both parts.
    """
    generator = np.random.default_rng(spec.validation.seed)
    if spec.rows is not None and spec.rows < len(texts):
        texts = texts.subset(_sample(texts, spec.rows, generator))
    _check_class_sizes(texts)
    validation = _held_out(texts, spec.validation, generator)
    held_out = np.zeros(len(texts), dtype=bool)
    held_out[validation] = True
    everything = np.arange(len(texts))
    return Split(train=texts.subset(everything[~held_out]), validation=texts.subset(everything[held_out]))


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


def _sample(texts: LabelledTexts, rows: int, generator: np.random.Generator) -> Indices:
    if rows < ROWS_PER_CLASS_MIN * len(texts.classes):
        raise _invalid(
            Problem(
                field="rows",
                message=f"{rows} rows can't hold {ROWS_PER_CLASS_MIN} of each of {len(texts.classes)} classes.",
                remedy="Raise rows, or leave it out to use them all.",
            )
        )
    return _stratified(texts, rows, ROWS_PER_CLASS_MIN, generator)


def _held_out(texts: LabelledTexts, validation: StratifiedValidation, generator: np.random.Generator) -> Indices:
    rows = min(len(texts) - 1, max(1, round(len(texts) * validation.fraction)))
    if not validation.stratify:
        return np.sort(generator.permutation(len(texts))[:rows])
    rows = min(max(rows, len(texts.classes)), len(texts) - len(texts.classes))
    return _stratified(texts, rows, 1, generator, leave=1)


def _stratified(texts: LabelledTexts, rows: int, least: int, generator: np.random.Generator, leave: int = 0) -> Indices:
    members = [np.flatnonzero(texts.labels == label) for label in range(len(texts.classes))]
    dealt = shares([len(group) - leave for group in members], rows, least)
    chosen = [generator.permutation(group)[:share] for group, share in zip(members, dealt, strict=True)]
    return np.sort(np.concatenate(chosen))


def _check_class_sizes(texts: LabelledTexts) -> None:
    counts = np.bincount(texts.labels, minlength=len(texts.classes))
    for name, count in zip(texts.classes, counts, strict=True):
        if count < ROWS_PER_CLASS_MIN:
            raise _invalid(
                Problem(
                    field="label",
                    message=f"class {name!r} has {count} row; it needs {ROWS_PER_CLASS_MIN}, to train and to validate.",
                    remedy="Add rows of that class or leave it out.",
                )
            )


def _cell(value: Any, column: str, path: Path, row: int) -> str:
    """The cell as text: numbers and truth values of typed formats become labels such as `3` and `true`."""
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value).strip()
    if not text:
        raise _invalid(
            Problem(
                file=path.name,
                row=row,
                field=column,
                message="the cell is empty.",
                remedy="Fill it or leave the row out.",
            )
        )
    return text


def _invalid(problem: Problem) -> RunFailed:
    return RunFailed(Reason.invalid_dataset, str(problem))
