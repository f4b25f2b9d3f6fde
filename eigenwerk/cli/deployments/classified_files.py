"""`classify --file`: a file's rows in their order, with their classes, as CSV or JSON Lines."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from eigenwerk.cli.console import note, progress_bar
from eigenwerk.errors import EigenwerkError
from eigenwerk.files.text_tables import TextTable, portions
from eigenwerk.resources.answers import Classification, LabelScore
from jobspecs.file_errors import why_not

_LABEL, _SCORE = "predicted_label", "predicted_score"
#: Rows without a text that are told by their numbers.
_EMPTY_SHOWN = 5
#: Digits of a score.
_DIGITS = 4

#: Takes a row and its labels, the best first; none for a row without a text.
Write = Callable[[Sequence[str], Sequence[LabelScore]], None]


def classify_table(
    table: TextTable, ask: Callable[[list[str]], Classification], *, out: Path | None, top_k: int, as_json: bool
) -> None:
    """Reads the file once before anything is asked. Raises EigenwerkError; then there is no file `out`."""
    total = _checked(table)
    new = [] if as_json else _new_columns(table, top_k)
    with _target(out) as stream, progress_bar("rows", total, MofNCompleteColumn(), TimeRemainingColumn()) as advance:
        write = _json_writer(stream, table) if as_json else _csv_writer(stream, table, new)
        version, cut = None, 0
        for rows in portions(table.rows(), table.text):
            texts = [text for row in rows if (text := table.text(row))]
            answer = ask(texts) if texts else None
            if answer is not None and version not in (None, answer.version):
                raise EigenwerkError("The deployment got a new version between two portions. Ask again.")
            version = answer.version if answer is not None else version
            cut += answer.truncated if answer is not None else 0
            found = iter(answer.results if answer is not None else [])
            for row in rows:
                write(row, next(found) if table.text(row) else [])
            advance(len(rows))
    if cut:
        note(f"texts that were cut because the model reads fewer tokens: {cut:,}")
    if out is not None:
        note(f"{total:,} rows are in {out}")


def _checked(table: TextTable) -> int:
    """How many rows there are; says which of them have no text."""
    total, empty = 0, []
    for total, row in enumerate(table.rows(), start=1):
        if not table.text(row):
            empty.append(total)
    if empty:
        rows = ", ".join(map(str, empty[:_EMPTY_SHOWN])) + (", …" if len(empty) > _EMPTY_SHOWN else "")
        note(f"{len(empty):,} of {total:,} rows have no text and get no label: {rows}")
    return total


def _new_columns(table: TextTable, top_k: int) -> list[str]:
    endings = ["", *(f"_{place}" for place in range(2, top_k + 1))]
    new = [f"{name}{ending}" for ending in endings for name in (_LABEL, _SCORE)]
    if taken := [name for name in new if name in table.columns]:
        raise EigenwerkError(f"{table.path} has a column {taken[0]!r} already. Rename it, or ask for --json.")
    return new


def _csv_writer(stream: TextIO, table: TextTable, new: Sequence[str]) -> Write:
    delimiter = table.dialect.delimiter or ","
    plain = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    # Python 3.11 leaves a lone \r without quotes, and every reader takes it for the row's end.
    quoted = csv.writer(stream, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write_cells(cells: Sequence[str]) -> None:
        (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)

    def write(row: Sequence[str], labels: Sequence[LabelScore]) -> None:
        cells = [cell for label in labels for cell in (label.label, f"{label.score:.{_DIGITS}f}")]
        write_cells([*row, *cells, *[""] * (len(new) - len(cells))])

    write_cells([*table.columns, *new])
    return write


def _json_writer(stream: TextIO, table: TextTable) -> Write:
    number = 0

    def write(row: Sequence[str], labels: Sequence[LabelScore]) -> None:
        nonlocal number
        number += 1
        document = {"row": number, "text": table.text(row), "labels": [label.model_dump() for label in labels]}
        stream.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")

    return write


@contextmanager
def _target(out: Path | None) -> Iterator[TextIO]:
    """Where the rows go: stdout, or a file that is there once it is whole."""
    if out is None:
        yield sys.stdout
        return
    part = out.with_name(f"{out.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        part.replace(out)
    except OSError as error:
        raise EigenwerkError(f"{out} can't be written: {why_not(error)}. It is chosen with --out.") from error
    finally:
        part.unlink(missing_ok=True)
