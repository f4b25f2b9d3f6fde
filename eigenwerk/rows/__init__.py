"""Rows of pandas, of datasets, or plain ones, on their way into a data set and out of it."""

from __future__ import annotations

from eigenwerk.rows.reading import DatasetRows
from eigenwerk.rows.writing import holds_rows, rows_as_files

__all__ = ["DatasetRows", "holds_rows", "rows_as_files"]
