"""`score-pairs`: two texts per row, and perhaps a label to compare the scores with. Nothing is held out."""

from __future__ import annotations

from typing import Any

from corpus.cells import number_cell, text_cell
from corpus.checks.findings import Findings
from corpus.checks.rows import CheckedFile, Rows, UsableRow, table_rows
from corpus.splits import SplitRows
from jobspecs.kinds.score_pairs import ScorePairs


class PairData:
    """Implements `corpus.checks.rows.Validator`."""

    unit, split_unit, classes, skips_bad_rows = "pair", "row", False, False
    max_length_field = "max_length"
    batch_size: int | None = None

    def __init__(self, spec: ScorePairs) -> None:
        self._spec = spec
        self.max_length = spec.max_length
        self.max_length_chosen = "max_length" in spec.model_fields_set

    def rows(self, file: CheckedFile) -> Rows:
        label = [self._spec.label] if self._spec.label is not None else []
        return table_rows(file, [*self._spec.pair, *label], self._row)

    def split(self, found: Findings) -> SplitRows | None:
        return None

    def _row(self, number: int, row: dict[str, Any]) -> UsableRow:
        first, second = (text_cell(row[column], column, None, number) for column in self._spec.pair)
        if self._spec.label is not None:
            number_cell(row[self._spec.label], self._spec.label, None, number)
        content = f"{first}\0{second}"
        return UsableRow(number, ((first, second),), content=content, guarded=content)
