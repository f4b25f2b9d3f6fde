"""What one pass over a data set learns about it: enough to refuse a spec that can't work without reading it again."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

#: Distinct values are counted exactly up to this many; beyond it `distinct_capped` is true and `values` is empty.
DISTINCT_VALUES_MAX = 1000


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


class DatasetProfile(BaseModel):
    """A whole table: the number of data rows and one profile per column, in file order."""

    model_config = ConfigDict(frozen=True)

    rows: int = Field(ge=0)
    columns: dict[str, ColumnProfile]
