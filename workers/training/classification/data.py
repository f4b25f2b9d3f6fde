"""Labelled texts: read from a table, sampled and split in a way that depends on the seed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from corpus.cells import label_cell, text_cell
from corpus.checks.findings import text_hashes
from corpus.dealing import class_split, rows_of_classes
from corpus.held_out import DataPart
from corpus.labels import held_out_warning, one_spelling
from corpus.splits import Indices, Roles
from jobspecs.kinds.train_classifier import ClassMetric, TrainClassifier
from jobspecs.lifecycle import Reason
from jobspecs.problems import InvalidInput, Problem
from workers.run.context import RunFailed


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with their classes. `classes` is sorted; `labels` (N,) are positions in it.

    `numbers` (N,): each text's row in its file, counted from 1. `roles` (N,): VALIDATION or TEST where the
    spec says so.
    """

    texts: tuple[str, ...]
    labels: Indices
    classes: tuple[str, ...]
    numbers: Indices
    roles: Roles
    #: Label in the data set -> the class that it was renamed to.
    renamed: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts)

    def subset(self, rows: Indices) -> LabelledTexts:
        """These rows, in this order, with the same classes."""
        texts = tuple(self.texts[row] for row in rows)
        return replace(self, texts=texts, labels=self.labels[rows], numbers=self.numbers[rows], roles=self.roles[rows])


@dataclass(frozen=True)
class Split:
    """The rows that train, those that judge, and by which metric.

    `fit`: those that train, and those of `validation` where `test` judges, with roles that tell which they are.
    """

    train: LabelledTexts
    validation: LabelledTexts
    fit: LabelledTexts
    metric: ClassMetric = "accuracy"
    #: Whether every class has the same say in the loss.
    balanced: bool = False
    #: Rows that judge and whose text is among those that choose, too.
    choosing_too: int = 0

    @property
    def texts_in_both(self) -> int:
        """Rows that judge whose text is also in the training part, but for case and spaces."""
        return int(np.isin(text_hashes(self.validation.texts), text_hashes(self.train.texts)).sum())


def load_texts(
    parts: Sequence[DataPart], text_column: str, label_column: str, *, normalize_labels: bool = False
) -> LabelledTexts:
    """Reads the two columns. Raises RunFailed(invalid_dataset) with file and row for cells that can't be used.

    `normalize_labels` gives each class one spelling.
    """
    texts: list[str] = []
    names: list[str] = []
    numbers: list[int] = []
    roles: list[int] = []
    try:
        for part in parts:
            file = part.file.name
            with part.file.locating():
                for number, row in part.rows([text_column, label_column]):
                    texts.append(text_cell(row[text_column], text_column, file, number))
                    names.append(label_cell(row[label_column], label_column, file, number))
                    numbers.append(number)
                    roles.append(part.role(number))
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error
    renamed: dict[str, str] = {}
    if normalize_labels:
        names, renamed = one_spelling(names)
    classes = tuple(sorted(set(names)))
    if len(classes) < 2:
        found = f"one class only ({classes[0]!r})" if classes else "no rows"
        raise _invalid(
            Problem(
                file=parts[0].file.name,
                field="label",
                message=f"column {label_column!r} has {found}.",
                remedy="Add rows of at least two classes.",
            )
        )
    index = {name: position for position, name in enumerate(classes)}
    return LabelledTexts(
        texts=tuple(texts),
        labels=np.array([index[name] for name in names], dtype=np.int64),
        classes=classes,
        numbers=np.array(numbers, dtype=np.int64),
        roles=np.array(roles, dtype=np.int8),
        renamed=renamed,
    )


def sample_and_split(texts: LabelledTexts, spec: TrainClassifier) -> Split:
    """A stratified sample of `spec.rows` rows, then the held-out part. Depends on `validation.seed` and the data only.

    Where the spec says which rows are held out, the others are sampled. Raises RunFailed(invalid_dataset) when a class
    has too few rows for both parts.
    """
    labels, classes = texts.labels, texts.classes
    hashes = text_hashes(texts.texts)
    try:
        # By the whole data set, so that the seed of the split has no say in it.
        balanced = spec.training.balances(rows_of_classes(spec, texts.roles, labels, len(classes)))
        metric = spec.deciding_metric(np.bincount(labels).tolist(), balanced=balanced)
        split = class_split(spec, texts.roles, labels, classes, hashes)
        held_out_warning(labels[split.validation], classes, metric)
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error
    rows, roles = split.fitting
    fit = replace(texts.subset(rows), roles=roles)
    train, validation, both = texts.subset(split.train), texts.subset(split.validation), split.choosing_too(hashes)
    return Split(train, validation, fit, metric, balanced, both)


def _invalid(problem: Problem) -> RunFailed:
    return RunFailed(Reason.invalid_dataset, str(problem))
