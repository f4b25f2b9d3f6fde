"""What one pass over a data set learns about it: enough to refuse a spec that can't work without reading it again."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jobspecs.dialect import Dialect
from jobspecs.problems import Problem

#: Distinct values are counted exactly up to this many; beyond it `distinct_capped` is true and `values` is empty.
DISTINCT_VALUES_MAX = 1000
#: Fewest characters per token that texts show as a whole: it gives an upper bound of tokens, not their usual number.
_CHARS_PER_TOKEN_MIN = 2
_SPECIAL_TOKENS = 2
_TRUTH = {"true": 1.0, "false": 0.0}


class ColumnProfile(BaseModel):
    """One column. `values` maps each distinct non-empty value (as text) to its number of rows."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["text", "number", "boolean", "other"]
    empty: int = Field(ge=0, description="rows in which the value is missing or blank")
    distinct: int = Field(ge=0, description="distinct non-empty values, exact up to DISTINCT_VALUES_MAX")
    distinct_capped: bool = False
    values: dict[str, int] = Field(default_factory=dict)
    longest_chars: int = Field(ge=0)
    mean_chars: float = Field(ge=0)
    #: 1-based number of the first row whose value is empty.
    first_empty_row: int | None = None

    def numbers(self) -> list[float]:
        """The values that were kept, of a column of numbers or truth values; the latter are 1 and 0."""
        return [_TRUTH[value.lower()] if value.lower() in _TRUTH else float(value) for value in self.values]


class DatasetProfile(BaseModel):
    """A whole table: the number of data rows and one profile per column, in file order."""

    model_config = ConfigDict(frozen=True)

    rows: int = Field(ge=0)
    columns: dict[str, ColumnProfile]
    #: How the file was read, and is read ever after; None for formats that leave nothing to be recognised.
    dialect: Dialect | None = None
    #: What was taken for granted that may not be meant, in words for the one who pushed it.
    notices: tuple[str, ...] = ()


def empty_cells(field: str, name: str, column: ColumnProfile) -> list[Problem]:
    """That column `name`, which `field` of a spec names, is empty in some rows; nothing where it is not."""
    if not column.empty:
        return []
    message = f"column {name!r} is empty in {column.empty} rows, and this is the first of them."
    remedy = "Fill these cells or leave the rows out."
    return [Problem(field=field, row=column.first_empty_row, message=message, remedy=remedy)]


def tokens_at_most(longest_chars: int, max_length: int) -> int:
    """Tokens of the longest text, given its characters and the length at which texts are cut."""
    return min(max_length, longest_chars // _CHARS_PER_TOKEN_MIN + _SPECIAL_TOKENS)
