"""Rows of a Parquet file, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.tabular.content import check_growth
from storage.tabular.formats import checked_columns, refusal
from storage.tabular.stored import Stored

#: Rows decoded at once. A dictionary lets each of them be large though the file is small: a text of 1 MB, 20,000 times,
#: takes 47 KB. So few rows are decoded before their bytes are counted; 512 at once would be a fifth quicker.
BATCH_ROWS = 64
#: Largest decompressed row group, in bytes: reading holds about one of them.
ROW_GROUP_BYTES_MAX = 2 * 1024**3
_REMEDY = "Write it again, for instance with pandas: frame.to_parquet(path)."


def parquet_rows(path: Stored, file: str, columns: Sequence[str] | None, max_bytes: int) -> Iterator[dict[str, Any]]:
    """Yields each row as {column: value}. Raises InvalidInput for a damaged file and above the limits."""
    row = content_bytes = 0
    try:
        with path.open("rb") as stream, pq.ParquetFile(stream) as table:
            _check_size(table.metadata, file, max_bytes)
            names = checked_columns(table.schema_arrow.names, file)
            wanted = [name for name in names if columns is None or name in columns]
            for batch in table.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False):
                content_bytes += batch.nbytes
                check_growth(path, content_bytes, path.stat().st_size, "Parquet", file)
                for values in _rows_of(batch, file, row):
                    row += 1
                    yield values
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise refusal(f"the Parquet file can't be read ({reason}).", file, _REMEDY, row + 1 if row else None) from error


def parquet_columns(path: Stored, file: str) -> list[str]:
    """The names of the columns. Raises InvalidInput for a damaged file."""
    try:
        with path.open("rb") as stream:
            return checked_columns(pq.read_schema(stream).names, file)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise refusal(f"the Parquet file can't be read ({reason}).", file, _REMEDY) from error


def _check_size(metadata: pq.FileMetaData, file: str, max_bytes: int) -> None:
    groups = [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
    if sum(groups) > max_bytes:
        raise refusal(f"the content is larger than {max_bytes:,} bytes.", file, "Split the table.")
    if max(groups, default=0) > ROW_GROUP_BYTES_MAX:
        limit = f"a row group is larger than {ROW_GROUP_BYTES_MAX // 1024**3} GiB."
        raise refusal(limit, file, "Write it with smaller row groups (row_group_size=100000).")


def _rows_of(batch: pa.RecordBatch, file: str, rows_before: int) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except (UnicodeDecodeError, ValueError, OverflowError):
        rows = [_row_of(batch, index, file, rows_before + index + 1) for index in range(batch.num_rows)]
    nested = [field.name for field in batch.schema if pa.types.is_nested(field.type)]
    return [row | {name: _given(row[name]) for name in nested} for row in rows] if nested else rows


def _given(value: Any) -> Any:
    """A value without the fields of its objects that are null: Parquet writes so what only other objects have."""
    if isinstance(value, dict):
        return {key: _given(part) for key, part in value.items() if part is not None}
    return [_given(part) for part in value] if isinstance(value, list) else value


def _row_of(batch: pa.RecordBatch, index: int, file: str, row: int) -> dict[str, Any]:
    values = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            values[name] = column[index].as_py()
        except (UnicodeDecodeError, ValueError, OverflowError) as error:
            raise refusal(f"the value can't be read ({error}).", file, _REMEDY, row, name) from error
    return values
