"""What an embedder learns from: rows of texts with a score or a class, split so that no text is on both sides.

Notation: N rows, C texts per row, U distinct texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.cells import label_cell, score_cell, text_cell
from corpus.checks.findings import text_hash
from corpus.held_out import DataPart
from corpus.labels import Twins, one_spelling, twins_of
from corpus.pair_splits import overlap_of, tied_split
from corpus.rankings import check_scores
from corpus.splits import Roles
from jobspecs.data_report import Overlap
from jobspecs.kinds.train_embedder import ROWS_MIN, Prompts, TrainEmbedder
from jobspecs.lifecycle import Reason
from jobspecs.problems import InvalidInput, Problem
from workers.local_models.tokens import Int64s
from workers.run.context import RunFailed

#: Field of the spec -> the prompt that its texts get.
PROMPT_OF = {"anchor": "query", "positive": "passage", "negative": "passage"}


@dataclass(frozen=True)
class EmbeddingRows:
    """N rows. Text c of row n is `texts[columns[n, c]]`; `fields` (C) names each column as the spec does.

    `numbers` (N,): where each row is in its file, counted from 1. `roles` (N,): VALIDATION or TEST where the
    spec says so.
    """

    texts: tuple[str, ...]
    columns: Int64s
    fields: tuple[str, ...]
    numbers: Int64s
    roles: Roles
    #: (N,) scores from 0 to 1, or numbers of classes; None for anchors with positives.
    targets: npt.NDArray[np.float32] | None = None
    #: Names of the classes by their numbers.
    classes: tuple[str, ...] = ()
    #: Label in the data set -> the class that it was renamed to.
    renamed: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns)

    def subset(self, rows: Int64s) -> EmbeddingRows:
        """These rows, in this order, over the same texts."""
        targets = None if self.targets is None else self.targets[rows]
        return replace(
            self, columns=self.columns[rows], numbers=self.numbers[rows], roles=self.roles[rows], targets=targets
        )

    def column(self, position: int) -> list[str]:
        """The texts (N) of one column."""
        return [self.texts[text] for text in self.columns[:, position]]

    def with_negatives(self, texts: Sequence[str], columns: Int64s) -> EmbeddingRows:
        """Also these columns (N, K), numbers in `texts`, which begins with this data's own."""
        fields = self.fields + ("negative",) * columns.shape[1]
        return replace(self, texts=tuple(texts), columns=np.hstack([self.columns, columns]), fields=fields)


@dataclass(frozen=True)
class EmbeddingSplit:
    """The rows that train and the rows that judge.

    `fit`: those that train, and those of `validation` where `test` judges, with roles that tell which they are.
    """

    train: EmbeddingRows
    validation: EmbeddingRows
    fit: EmbeddingRows
    #: Of the data's own rows, before negatives are mined.
    overlap: Overlap
    #: Classes with one text to train on.
    twins: Twins = field(default_factory=Twins)
    #: Rows that judge and whose text is among those that choose, too.
    choosing_too: int = 0

    @property
    def rows_in_both(self) -> int:
        """Held-out rows with a text that is also in the training part; with negatives there may be some."""
        known = np.unique(self.train.columns)
        return int(np.isin(self.validation.columns, known).any(axis=1).sum())


def load_rows(parts: Sequence[DataPart], spec: TrainEmbedder) -> EmbeddingRows:
    """Reads the columns of the spec. Raises RunFailed(invalid_dataset) with file and row for what can't be used."""
    fields = tuple(field for field, _ in spec.text_columns)
    names = [column for _, column in spec.text_columns]
    targets = [column for column in (spec.score, spec.label) if column is not None]
    numbers: dict[str, int] = {}
    columns: list[list[int]] = []
    values: list[Any] = []
    places: list[tuple[int, int]] = []
    try:
        for part in parts:
            file = part.file.name
            with part.file.locating():
                for number, row in part.rows([*names, *targets]):
                    found = [text_cell(row[name], name, file, number) for name in names]
                    columns.append([numbers.setdefault(text, len(numbers)) for text in found])
                    values += [_target(row[name], spec, file, number) for name in targets]
                    places.append((number, part.role(number)))
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error
    if len(columns) < ROWS_MIN:
        raise _invalid(f"the data set has {len(columns)} rows; {ROWS_MIN} are needed.", "Add rows.")
    classes: tuple[str, ...] = ()
    renamed: dict[str, str] = {}
    if spec.label is not None:
        if spec.data.normalize_labels:
            values, renamed = one_spelling(values)
        # In the order in which they appear, as the check counts them.
        classes = tuple(dict.fromkeys(values))
        places_of = {name: place for place, name in enumerate(classes)}
        values = [places_of[name] for name in values]
    return EmbeddingRows(
        texts=tuple(numbers),
        columns=np.array(columns, dtype=np.int64),
        fields=fields,
        numbers=np.array([number for number, _ in places], dtype=np.int64),
        roles=np.array([role for _, role in places], dtype=np.int8),
        targets=np.array(values, dtype=np.float32) if targets else None,
        classes=classes,
        renamed=renamed,
    )


def split_rows(rows: EmbeddingRows, spec: TrainEmbedder) -> EmbeddingSplit:
    """A random sample of `spec.rows` rows, then the held-out part. Depends on `validation.seed` and the data only.

    Rows that share a text, directly or through other rows, go to the same side; negatives don't count, they are no
    statement about a text. Where that ties most rows together, only rows with the same first text do.
    """
    own = [position for position, field in enumerate(rows.fields) if field != "negative"]
    tied = rows.columns[:, [own[0], own[-1]]]
    try:
        split = tied_split(spec, roles=rows.roles, texts=rows.columns, own=tied)
        labels = None if spec.label is None else rows.targets
        if spec.score is not None and rows.targets is not None:
            check_scores(rows.targets[split.validation])
        twins = Twins() if labels is None else twins_of(split, labels.astype(np.int64), rows.classes)
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error
    overlap = overlap_of(split, rows.columns, rows.fields)
    fitting, roles = split.fitting
    fit = replace(rows.subset(fitting), roles=roles)
    both = split.choosing_too(_guarded(rows, spec)) if len(split.choosing) else 0
    return EmbeddingSplit(rows.subset(split.train), rows.subset(split.validation), fit, overlap, twins, both)


def _guarded(rows: EmbeddingRows, spec: TrainEmbedder) -> Int64s:
    """(N,) numbers of what must not be on both sides: a pair in either order, else the first text."""
    known = np.array([text_hash(text) for text in rows.texts], dtype=np.uint64).view(np.int64)
    if spec.shape != "scored-pairs":
        return known[rows.columns[:, 0]]
    return np.unique(np.sort(known[rows.columns], axis=1), axis=0, return_inverse=True)[1].astype(np.int64)


def prompted(rows: EmbeddingRows, prompts: Prompts) -> tuple[list[str], Int64s]:
    """Each distinct text with its prompt, and where each text of a row (N, C) is among them."""
    given = [getattr(prompts, PROMPT_OF.get(field, "text")) for field in rows.fields]
    variants = sorted(set(given))
    keys = rows.columns * len(variants) + np.array([variants.index(prompt) for prompt in given])
    used, places = np.unique(keys, return_inverse=True)
    texts = [variants[key % len(variants)] + rows.texts[key // len(variants)] for key in used.tolist()]
    return texts, places.reshape(rows.columns.shape).astype(np.int64)


def _target(value: Any, spec: TrainEmbedder, file: str, row: int) -> Any:
    if spec.score is None:
        return label_cell(value, str(spec.label), file, row)
    return score_cell(value, spec.score, spec.score_range, file, row, only_ends=spec.only_ends)


def _invalid(message: str, remedy: str) -> RunFailed:
    return RunFailed(Reason.invalid_dataset, str(Problem(message=message, remedy=remedy)))
