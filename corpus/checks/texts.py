"""`quantize`: one text per row. Equal texts are never on both sides of the split."""

from __future__ import annotations

from typing import Any

from corpus.cells import text_cell
from corpus.checks.findings import Findings
from corpus.checks.rows import CheckedFile, Rows, UsableRow, table_rows
from corpus.splits import SplitRows
from jobspecs.kinds.quantize import Quantize


class TextData:
    """Implements `corpus.checks.rows.Validator`."""

    unit, split_unit, classes, skips_bad_rows = "text", "row", False, False
    max_length_field = "validation.length"
    batch_size: int | None = None

    def __init__(self, spec: Quantize) -> None:
        self._spec = spec
        self.max_length = spec.validation.length
        # Long texts are cut on purpose: what is measured is the same for both models.
        self.max_length_chosen = True

    def rows(self, file: CheckedFile) -> Rows:
        return table_rows(file, [self._spec.text], self._row)

    def split(self, found: Findings) -> SplitRows | None:
        return None

    def _row(self, number: int, row: dict[str, Any]) -> UsableRow:
        text = text_cell(row[self._spec.text], self._spec.text, None, number)
        return UsableRow(number, (text,), content=text, guarded=text)
