"""`predict`: a text, two texts or a question per row. Nothing is held out."""

from __future__ import annotations

from typing import Any

from corpus.asking import Asking
from corpus.cells import text_cell
from corpus.checks.findings import Findings
from corpus.checks.rows import CheckedFile, Rows, UsableRow, table_rows
from corpus.conversations.problems import BadRow
from corpus.splits import SplitRows
from jobspecs.kinds.predict import Predict
from jobspecs.problems import InvalidInput


class PredictData:
    """Implements `corpus.checks.rows.Validator`."""

    split_unit, classes, skips_bad_rows = "row", False, False
    max_length_field = "max_length"
    batch_size: int | None = None

    def __init__(self, spec: Predict) -> None:
        self._spec = spec
        self._asking = Asking(spec.prompt, spec.system, spec.messages)
        self.unit = {"text": "text", "pair": "pair"}.get(spec.reads, "prompt")
        self.max_length = spec.max_length
        self.max_length_chosen = "max_length" in spec.model_fields_set

    def rows(self, file: CheckedFile) -> Rows:
        columns = [column for _, column in self._spec.read_columns()]
        return table_rows(file, list(dict.fromkeys(columns)), self._row)

    def split(self, found: Findings) -> SplitRows | None:
        return None

    def _row(self, number: int, row: dict[str, Any]) -> UsableRow:
        if self._spec.pair is not None:
            first, second = (text_cell(row[column], column, None, number) for column in self._spec.pair)
            content = f"{first}\0{second}"
            return UsableRow(number, ((first, second),), content=content, guarded=content)
        text = (
            text_cell(row[self._spec.text], self._spec.text, None, number)
            if self._spec.text is not None
            else asked_text(self._asking, row, number)
        )
        return UsableRow(number, (text,), content=text, guarded=text)


def asked_text(asking: Asking, row: dict[str, Any], number: int) -> str:
    """All that the model is asked of a row. Raises InvalidInput."""
    try:
        return asking.of(row).text
    except BadRow as error:
        raise InvalidInput([error.problem("", number).model_copy(update={"file": None})]) from error
