"""Rows in memory as files that can be pushed: JSON Lines, which every value of theirs fits into."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eigenwerk.errors import EigenwerkError

_FILE = "rows.jsonl"
#: Digits with which a float64 is read back as it was, nearly always: pandas writes no more.
_DIGITS = 15


def holds_rows(what: Any) -> bool:
    """Whether it is rows, or parts of a split with rows, and no paths."""
    if isinstance(what, Mapping):
        return bool(what) and all(holds_rows(part) for part in what.values())
    if isinstance(what, Sequence):
        return bool(what) and all(isinstance(row, Mapping) for row in what)
    return _of(what, "pandas") or _of(what, "datasets")


@contextmanager
def rows_as_files(rows: Any) -> Iterator[Any]:
    """A file with the rows, or one for each part of a split, for as long as it is needed.

    Raises EigenwerkError for rows that JSON can't hold.
    """
    with tempfile.TemporaryDirectory(prefix="eigenwerk-") as name:
        if not isinstance(rows, Mapping):
            yield _written(rows, Path(name))
            return
        files = {}
        for number, (part, inside) in enumerate(rows.items()):
            (folder := Path(name) / str(number)).mkdir()
            files[str(part)] = _written(inside, folder)
        yield files


def _written(rows: Any, folder: Path) -> Path:
    path = folder / _FILE
    if not len(rows):
        raise EigenwerkError("There are no rows to push.")
    if _of(rows, "pandas"):
        _write_frame(rows, path)
        return path
    with path.open("w", encoding="utf-8") as stream:
        for number, row in enumerate(_with_class_names(rows), 1):
            try:
                stream.write(json.dumps(dict(row), ensure_ascii=False, allow_nan=False, default=_plain) + "\n")
            except (TypeError, ValueError) as error:
                raise EigenwerkError(f"Row {number} can't be written as JSON: {error}. Change its values.") from error
    return path


def _write_frame(frame: Any, path: Path) -> None:
    """Without its index: what is in there and meant to be kept is a column."""
    if not hasattr(frame, "columns"):
        raise EigenwerkError("A column alone is no table. Push a DataFrame: column.to_frame()")
    try:
        frame.to_json(
            path, orient="records", lines=True, force_ascii=False, date_format="iso", double_precision=_DIGITS
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise EigenwerkError(f"The frame can't be written as JSON: {error}. Change its columns.") from error


def _with_class_names(rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Of a data set of `datasets`, classes by their names and not by numbers."""
    features = getattr(rows, "features", None) or {}
    named = {column: kind.int2str for column, kind in features.items() if hasattr(kind, "int2str")}
    for row in rows:
        yield {
            column: named[column](value) if column in named and value is not None else value
            for column, value in row.items()
        }


def _plain(value: Any) -> Any:
    """What JSON has no word for: times, numbers and arrays of NumPy."""
    for name in ("isoformat", "tolist"):
        if hasattr(value, name):
            return getattr(value, name)()
    raise TypeError(f"{type(value).__name__} is no value of a table")


def _of(what: Any, library: str) -> bool:
    # By name: the client is not to load, or to have, a library whose objects nobody gives it.
    return type(what).__module__.partition(".")[0] == library
