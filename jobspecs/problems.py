"""What is wrong with an input, in the words of the person who has to mend it."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, field_validator

#: Problems that one refusal names. A body of a megabyte can be wrong in 300,000 places; nobody reads them all.
PROBLEMS_MAX = 50


class Problem(BaseModel):
    """One thing that is wrong: what, where (field of the spec, or file and row of the data) and what to do."""

    model_config = ConfigDict(frozen=True)

    message: str
    field: str | None = None
    file: str | None = None
    #: 1-based number of the data row; the header of a CSV file is not counted.
    row: int | None = None
    remedy: str | None = None

    @field_validator("message", "field", "file", "remedy", mode="before")
    @classmethod
    def _sendable(cls, value: object) -> object:
        """Half a surrogate pair, of a name in the data, as an escape: no answer could hold it."""
        return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value

    def __str__(self) -> str:
        place = ", ".join(
            part
            for part in (
                f"field {self.field}" if self.field else "",
                f"file {self.file}" if self.file else "",
                f"row {self.row}" if self.row is not None else "",
            )
            if part
        )
        text = f"{place}: {self.message}" if place else self.message
        return f"{text} {self.remedy}" if self.remedy else text


class InvalidInput(Exception):
    """The input can't be used; `problems` says why. Nothing was changed."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        if not problems:
            raise ValueError("InvalidInput needs at least one problem")
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))
