"""Rows of a CSV file: strict, with a header, in the file or given with it."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence

from storage.tabular.formats import FIELD_CHARS_MAX, checked_columns, refusal
from storage.tabular.lines import BadLine, Line

#: Tried in this order; the first wins if several fit.
DELIMITERS = (",", ";", "\t")
#: The delimiter is judged by this many lines.
SNIFF_LINES = 50
#: And by this many characters at most: each delimiter splits them all.
SNIFF_CHARS = 1024 * 1024
_QUOTES = 'Put fields that hold the delimiter or a line end in double quotes, and write a quote inside as "".'

# The csv module has one limit per process; its default, 131,072 characters, is less than a long document.
csv.field_size_limit(FIELD_CHARS_MAX)

Record = list[str]


def csv_rows(
    lines: Iterator[Line], file: str, delimiter: str | None, given: Sequence[str] | None = None
) -> Iterator[dict[str, str]]:
    """Yields each data row as {column: text}. Raises InvalidInput: header, ragged or blank row, quotes, UTF-8.

    `given` are the names of the columns of a file whose first line is already a row.
    """
    if delimiter is None:
        delimiter, lines = _sniffed(lines)
    records = _records(lines, file, delimiter, first_row=0 if given is None else 1)
    header = _checked_header(next(records, None) if given is None else list(given), file)
    known = "the header has" if given is None else "the names given are"
    blank: int | None = None
    for row, record in enumerate(records, start=1):
        if not record:
            blank = blank or row
            continue
        if blank is not None:
            # Blank lines at the end are harmless; one between rows may be a row whose only field got lost.
            raise refusal("the row is blank.", file, 'Remove the line, or write an empty field as "".', blank)
        if row == 1 and record == header and given is not None:
            remedy = "Leave the names of the columns out when the file has them."
            raise refusal("the first line holds the names of the columns.", file, remedy, row)
        if len(record) != len(header):
            message = f"the row has {len(record)} fields, {known} {len(header)}."
            raise refusal(message, file, _QUOTES, row)
        yield dict(zip(header, record, strict=True))


def _records(lines: Iterator[Line], file: str, delimiter: str, first_row: int) -> Iterator[Record]:
    """The csv module's records; a header is number 0. Errors get the row and the physical line it starts on."""
    reader = csv.reader((line.text for line in lines), delimiter=delimiter, strict=True)
    for row in itertools.count(first_row):
        first_line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            message = f"the row that starts on line {first_line} can't be read: {error}."
            raise refusal(message, file, _QUOTES, row or None) from error
        except BadLine as error:
            raise refusal(error.message, file, error.remedy, row or None) from error
        if record is None:
            return
        yield record


def _checked_header(header: Record | None, file: str) -> Record:
    if not header or not any(name.strip() for name in header):
        raise refusal("there is no header.", file, "Put the names of the columns in the first line.")
    return checked_columns(header, file)


def _sniffed(lines: Iterator[Line]) -> tuple[str, Iterator[Line]]:
    """The delimiter that fits the first records best, and all the lines again from the first."""
    sample: list[Line] = []
    bad: list[BadLine] = []
    chars = 0
    try:
        for line in itertools.islice(lines, SNIFF_LINES):
            sample.append(line)
            chars += len(line.text)
            if chars > SNIFF_CHARS:
                break
    except BadLine as error:
        bad.append(error)

    def again() -> Iterator[Line]:
        yield from sample
        # The reader of rows meets the bad line in its place and tells the row.
        if bad:
            raise bad[0]
        yield from lines

    cut = len(sample) == SNIFF_LINES or chars > SNIFF_CHARS
    return max(DELIMITERS, key=lambda delimiter: _fit(sample, delimiter, cut)), again()


def _fit(sample: list[Line], delimiter: str, cut: bool) -> tuple[bool, int]:
    """How well a delimiter explains the sample: first that all records have equally many fields, then how many.

    One field each explains nothing: any unused character does that, also for a ragged table.
    """
    try:
        records = list(csv.reader((line.text for line in sample), delimiter=delimiter))
    except csv.Error:
        return False, 0
    if cut and len(records) > 1:
        # The sample may end within a quoted field.
        records = records[:-1]
    widths = [len(record) for record in records if record]
    columns = widths[0] if widths else 0
    return columns > 1 and len(set(widths)) == 1, columns
