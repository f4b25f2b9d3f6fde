"""Which layout a file has whose ending does not say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice

from jobspecs.layouts import Layout
from jobspecs.problems import InvalidInput
from storage.tabular.content import open_content
from storage.tabular.formats import PLAIN, TABLE_BYTES_MAX, TABLE_ROWS_MAX, TableFormat
from storage.tabular.json_text import JsonText
from storage.tabular.lines import BadLine, read_lines
from storage.tabular.questions import LEFT_OUT, are_questions, question_rows
from storage.tabular.reading import read_rows
from storage.tabular.recognising_json import recognise_json
from storage.tabular.stored import Stored

#: Rows that are looked at for questions: the first article may have no paragraphs.
_LOOKED_AT = 20


def recognise_layout(
    path: Stored,
    fmt: TableFormat,
    file: str,
    *,
    max_bytes: int = TABLE_BYTES_MAX,
    max_rows: int = TABLE_ROWS_MAX,
) -> tuple[TableFormat, list[str]]:
    """The format with its layout, and what was recognised, in words.

    Counts no more than `max_rows` pairs of questions. Raises InvalidInput as `read_rows` does.
    """
    notices = []
    if fmt.kind in ("json", "jsonl"):
        layout, notice = _container(path, fmt, file, max_bytes)
        fmt = _with_layout(fmt, layout)
        notices += [notice] if notice else []
    if fmt.kind == "csv" or not _asks(path, fmt, file, max_bytes):
        return fmt, notices
    counts: Counter[str] = Counter()
    pairs = question_rows(read_rows(path, fmt, file_name=file, max_bytes=max_bytes), file, counts)
    # Beyond that the table is refused, by whoever reads its rows.
    for _ in islice(pairs, max_rows + 1):
        counts["pairs"] += 1
    asked = (
        f"Questions about paragraphs, as SQuAD has them, are read as {counts['pairs']:,} pairs of question and context"
    )
    left_out = f"; unanswerable questions are left out: {counts[LEFT_OUT]:,}." if counts[LEFT_OUT] else "."
    notices.append(asked + left_out)
    return _with_layout(fmt, replace(fmt.layout, questions=True)), notices


def _with_layout(fmt: TableFormat, layout: Layout) -> TableFormat:
    kept = None if layout == PLAIN else str(layout)
    return replace(fmt, dialect=fmt.dialect.model_copy(update={"layout": kept}))


def _container(path: Stored, fmt: TableFormat, file: str, max_bytes: int) -> tuple[Layout, str | None]:
    open_file = partial(open_content, path, file, compression=fmt.compression, max_bytes=max_bytes)
    if fmt.kind == "json":
        return recognise_json(open_file, file)
    with open_file() as stream:
        text = JsonText(stream, file)
        if text.next_sign() == "[":
            return Layout("array"), "The file is one array, not an object per line."
    if _goes_over_lines(path, fmt, file, max_bytes):
        return Layout("lines"), "Objects go over several lines each."
    return PLAIN, None


def _goes_over_lines(path: Stored, fmt: TableFormat, file: str, max_bytes: int) -> bool:
    """Whether the first line is no more than an object's beginning: somebody indented it."""
    lines = read_lines(path, file, compression=fmt.compression, max_bytes=max_bytes)
    with suppress(BadLine, InvalidInput):
        first = next((line.text.strip() for line in lines if line.text.strip()), "")
        return first == "{"
    return False


def _asks(path: Stored, fmt: TableFormat, file: str, max_bytes: int) -> bool:
    rows: Iterator[dict[str, object]] = read_rows(path, fmt, file_name=file, max_bytes=max_bytes)
    return any(are_questions(row) for row in islice(rows, _LOOKED_AT))
