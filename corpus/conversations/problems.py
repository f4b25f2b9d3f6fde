"""How a row says what is wrong with it, before anyone knows its number and file."""

from __future__ import annotations

from jobspecs.problems import Problem


class BadRow(Exception):
    """A row that can't be used. The reader of rows knows its number and turns this into a Problem."""

    def __init__(self, field: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.remedy = remedy

    def problem(self, file: str, row: int) -> Problem:
        return Problem(message=self.message, field=self.field, file=file, row=row, remedy=self.remedy)
