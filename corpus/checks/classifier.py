"""`train-classifier`: one text and its class per row."""

from __future__ import annotations

from typing import Any

import numpy as np

from corpus.cells import label_cell, text_cell
from corpus.checks.classes import take_classes
from corpus.checks.findings import Findings
from corpus.checks.remarks import remarks_of_label, remarks_of_text
from corpus.checks.rows import CheckedFile, Rows, UsableRow, table_rows
from corpus.dealing import class_split, rows_of_classes
from corpus.labels import held_out_warning
from corpus.splits import SplitRows
from jobspecs.kinds.train_classifier import TrainClassifier
from jobspecs.problems import InvalidInput, Problem


class ClassifierData:
    """Implements `corpus.checks.rows.Validator`. A leak is a held-out text that is trained on."""

    unit, split_unit, classes, skips_bad_rows = "text", "row", True, False
    max_length_field = "training.max_length"

    def __init__(self, spec: TrainClassifier) -> None:
        self._spec = spec
        self.max_length = spec.tokens_read
        self.max_length_chosen = "max_length" in spec.training.model_fields_set
        self.batch_size: int | None = None if spec.linear else spec.training.batch_size

    def rows(self, file: CheckedFile) -> Rows:
        return table_rows(file, [self._spec.text, self._spec.label], self._row)

    def split(self, found: Findings) -> SplitRows:
        """Raises InvalidInput when there is one class only, or a class with too few rows."""
        take_classes(found, normalize=self._spec.data.normalize_labels)
        if len(found.groups) < 2:
            message = f"column {self._spec.label!r} has one class only ({next(iter(found.groups))!r})."
            raise InvalidInput([Problem(field="label", message=message, remedy="Add rows of at least two classes.")])
        # The runner numbers the classes in alphabetical order.
        classes = sorted(found.groups)
        places = np.empty(len(classes), dtype=np.int64)
        places[[found.groups[name] for name in classes]] = np.arange(len(classes))
        labels = places[found.group_numbers]
        counts = rows_of_classes(self._spec, found.roles, labels, len(classes))
        balanced = self._spec.training.balances(counts)
        metric = self._spec.deciding_metric(np.bincount(labels).tolist(), balanced=balanced)
        found.settings["metric"] = metric
        if self._spec.training.class_weights == "auto":
            found.settings["class_weights"] = f"auto ({'balanced' if balanced else 'none'})"
        split = class_split(self._spec, found.roles, labels, classes, found.guarded_texts)
        if (warning := held_out_warning(labels[split.validation], classes, metric)) is not None:
            found.warnings.append(warning)
        return split

    def _row(self, number: int, row: dict[str, Any]) -> UsableRow:
        text = text_cell(row[self._spec.text], self._spec.text, None, number)
        label = label_cell(row[self._spec.label], self._spec.label, None, number)
        remarks = [*remarks_of_text(text, "text"), *remarks_of_text(label, "label")]
        remarks += remarks_of_label(row[self._spec.label], label)
        return UsableRow(number, (text,), content=f"{text}\0{label}", guarded=text, group=label, remarks=remarks)
