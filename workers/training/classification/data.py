"""Labelled texts: read from a table, sampled and split in a way that depends on the seed alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from corpus.splits import Indices, stratified_split
from jobspecs.dialect import Dialect
from jobspecs.kinds.train_classifier import TrainClassifier
from jobspecs.lifecycle import Reason
from jobspecs.problems import InvalidInput, Problem
from storage.tabular import detect_format, read_rows
from workers.run.context import RunFailed


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


def load_texts(path: Path, text_column: str, label_column: str, dialect: Dialect | None = None) -> LabelledTexts:
    """Reads the two columns. Raises RunFailed(invalid_dataset) with file and row for cells that can't be used.

    `dialect` tells how the file is read.
    """
    texts: list[str] = []
    names: list[str] = []
    try:
        rows = read_rows(path, detect_format(path.name, dialect), [text_column, label_column])
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
    validation = spec.validation
    try:
        split = stratified_split(
            texts.labels,
            texts.classes,
            rows=spec.rows,
            fraction=validation.fraction,
            seed=validation.seed,
            stratify=validation.stratify,
        )
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error
    return Split(train=texts.subset(split.train), validation=texts.subset(split.validation))


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
