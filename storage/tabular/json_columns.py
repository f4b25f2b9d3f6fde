"""Rows of a JSON file that goes column by column, as pandas writes it: `{"text": {"0": ...}}`, `{"text": [...]}`.

A row is complete only when the last column has come, so what comes before is held: as the bytes that it is written in,
which is less than the objects would take.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import IO, Any

from storage.tabular.formats import checked_columns, refusal
from storage.tabular.json_array import INDEX, INDEX_BESIDE, skip_value
from storage.tabular.json_text import JsonText

#: Content of a file that goes by columns, in bytes: it has to be held. Reading may take 1 GiB of memory.
HELD_BYTES_MAX = 256 * 1024**2
REMEDY = 'Write it row by row: frame.to_json(path, orient="records", lines=True), with .jsonl as the ending.'

Opener = Callable[[], AbstractContextManager[IO[bytes]]]


class _Held:
    """Values of a column, or the labels of rows, one behind the other."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        self._digest = hashlib.blake2b(digest_size=16)
        self.count = 0
        #: Whether they count the rows from 0 on, so that they say nothing.
        self.counts_rows = True

    def add(self, source: str) -> None:
        line = source.encode() + b"\n"
        self._bytes.write(line)
        self._digest.update(line)
        self.counts_rows = self.counts_rows and source.strip('"') == str(self.count)
        self.count += 1

    def same_as(self, other: _Held) -> bool:
        return self._digest.digest() == other._digest.digest()

    def values(self) -> Iterator[Any]:
        self._bytes.seek(0)
        for line in self._bytes:
            yield json.loads(line)


def column_rows(open_file: Opener, file: str) -> Iterator[dict[str, Any]]:
    """Rows of `{"column": {"label": value}}` and `{"column": [value]}`. Raises InvalidInput."""
    columns: dict[str, _Held] = {}
    index: _Held | None = None
    first = ""
    with open_file() as stream:
        text = JsonText(stream, file)
        for name in text.members("the file"):
            labels, columns[name] = _column(text, name, file)
            if index is None:
                index, first = labels, name
            elif labels.count != index.count or not labels.same_as(index):
                message = f"column {name!r} has other rows than {first!r} ({labels.count:,} and {index.count:,})."
                raise refusal(message, file, REMEDY, field=name)
        text.end("object")
    names = checked_columns(list(columns), file)
    if index is None:
        return
    values = zip(*(columns[name].values() for name in names), strict=True)
    yield from _with_index(names, values, index, file)


def split_rows(open_file: Opener, file: str) -> Iterator[dict[str, Any]]:
    """Rows of `{"columns": [name], "index": [label], "data": [[value]]}`. Raises InvalidInput."""
    names: list[str] = []
    index: _Held | None = None
    with open_file() as stream:
        text = JsonText(stream, file)
        for key in text.members("the file"):
            if key == "columns":
                names = [str(name) for name in text.value("the list of columns")]
            elif key == "index":
                index = _Held()
                for number in text.elements("label"):
                    index.add(text.source(f"label {number}"))
            else:
                skip_value(text, repr(key))
        text.end("object")
    names = checked_columns(names, file)
    yield from _with_index(names, _split_values(open_file, file, len(names)), index, file)


def _split_values(open_file: Opener, file: str, width: int) -> Iterator[list[Any]]:
    with open_file() as stream:
        text = JsonText(stream, file)
        for key in text.members("the file"):
            if key != "data":
                skip_value(text, repr(key))
                continue
            for row in text.elements():
                values = text.value(f"element {row}", row)
                if not isinstance(values, list) or len(values) != width:
                    raise refusal(f"element {row} has not one value for each of {width} columns.", file, REMEDY, row)
                yield values


def _with_index(names: list[str], rows: Iterator[Any], index: _Held | None, file: str) -> Iterator[dict[str, Any]]:
    """The rows; labels that do more than count them from 0 on become a column."""
    label = INDEX if INDEX not in names else INDEX_BESIDE
    labels = iter(()) if index is None or index.counts_rows else index.values()
    row = 0
    for row, values in enumerate(rows, start=1):
        if index is not None and row > index.count:
            break
        yield {**dict(zip([label], labels, strict=False)), **dict(zip(names, values, strict=True))}
    if index is not None and row != index.count:
        raise refusal(f"there are {index.count:,} labels of rows and another number of rows.", file, REMEDY)


def _column(text: JsonText, name: str, file: str) -> tuple[_Held, _Held]:
    """The labels of its rows, and its values."""
    labels, values = _Held(), _Held()
    if text.next_sign() == "[":
        for number in text.elements(f"value of {name!r}"):
            labels.add(str(number - 1))
            values.add(text.source(f"value {number} of {name!r}", number))
    elif text.next_sign() == "{":
        for label in text.members(f"column {name!r}"):
            labels.add(json.dumps(label))
            values.add(text.source(f"the value {label!r} of {name!r}", labels.count))
    else:
        raise refusal(f"{name!r} is no column: neither an array nor an object.", file, REMEDY, field=name)
    return labels, values
