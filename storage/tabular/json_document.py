"""Rows of a JSON file that is one document, in whatever layout."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from jobspecs.layouts import Layout
from jobspecs.tables import Compression
from storage.tabular.content import open_content
from storage.tabular.json_array import element_rows
from storage.tabular.json_columns import HELD_BYTES_MAX, column_rows, split_rows
from storage.tabular.stored import Stored


def document_rows(
    path: Stored, file: str, layout: Layout, *, compression: Compression | None, max_bytes: int
) -> Iterator[dict[str, Any]]:
    """Yields each row. Raises InvalidInput with the row for what is wrong, and when the file has another layout."""
    if layout.container == "columns":
        held = min(max_bytes, HELD_BYTES_MAX)
        yield from column_rows(partial(open_content, path, file, compression=compression, max_bytes=held), file)
    elif layout.container == "split":
        yield from split_rows(partial(open_content, path, file, compression=compression, max_bytes=max_bytes), file)
    else:
        with open_content(path, file, compression=compression, max_bytes=max_bytes) as stream:
            yield from element_rows(stream, file, layout)
