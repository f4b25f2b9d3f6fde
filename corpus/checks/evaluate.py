"""`evaluate`: what the models will read of each row, and what is known of it. Nothing is held out."""

from __future__ import annotations

from typing import Any

from corpus.asking import Asking
from corpus.cells import label_cell, number_cell, text_cell
from corpus.checks.findings import Findings
from corpus.checks.predict import asked_text
from corpus.checks.rows import CheckedFile, Rows, UsableRow, table_rows
from corpus.splits import SplitRows
from jobspecs.kinds.evaluate import Evaluate


class EvaluateData:
    """Implements `corpus.checks.rows.Validator`."""

    split_unit, skips_bad_rows = "row", False
    max_length_field = "max_length"
    batch_size: int | None = None

    def __init__(self, spec: Evaluate) -> None:
        self._spec = spec
        self._asking = Asking(spec.prompt, spec.system, spec.messages)
        self.classes = spec.task == "classification"
        self.unit = {"generation": "prompt", "similarity": "pair", "reranking": "pair"}.get(spec.task, "text")
        self.max_length = spec.max_length
        self.max_length_chosen = "max_length" in spec.model_fields_set

    def rows(self, file: CheckedFile) -> Rows:
        columns = [column for _, column in self._spec.read_columns()]
        return table_rows(file, list(dict.fromkeys(columns)), self._row)

    def split(self, found: Findings) -> SplitRows | None:
        return None

    def _row(self, number: int, row: dict[str, Any]) -> UsableRow:
        spec, group = self._spec, ""
        if spec.task == "generation":
            text = asked_text(self._asking, row, number)
            if spec.reference is not None:
                text_cell(row[spec.reference], spec.reference, None, number)
            return UsableRow(number, (text,), content=text, guarded=text)
        if spec.task == "classification":
            group = label_cell(row[str(spec.label)], str(spec.label), None, number)
        elif spec.task in ("similarity", "reranking"):
            column = str(spec.score if spec.task == "similarity" else spec.label)
            number_cell(row[column], column, None, number)
        texts = [text_cell(row[column], column, None, number) for column in self._texts()]
        sequences = [(texts[0], texts[1])] if self.unit == "pair" else texts
        content = "\0".join(texts)
        return UsableRow(number, sequences, content=content, guarded=content, group=group)

    def _texts(self) -> tuple[str, ...]:
        spec = self._spec
        return (str(spec.text),) if spec.text else spec.pair or (str(spec.query), str(spec.passage))
