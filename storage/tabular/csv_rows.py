"""Rows of a text table whose dialect is known: strict, with a header, in the file or given with it."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator

from jobspecs.dialect import Dialect
from storage.tabular.formats import FIELD_CHARS_MAX, checked_columns, refusal
from storage.tabular.lines import BadLine, Line

# The csv module has one limit per process; its default, 131,072 characters, is less than a long document.
csv.field_size_limit(FIELD_CHARS_MAX)

Record = list[str]
_SPACES_BEHIND = re.compile(r"""["'][ \t]+(?=[,;|\r\n]|$)""")
#: What the csv module says, and what it means. It never says where in the row.
_CSV_ERRORS = {
    "field larger than field limit": f"a field is longer than {FIELD_CHARS_MAX:,} characters",
    "new-line character seen": "a carriage return (CR) stands outside quotes",
    "unexpected end of data": "a quote that opens a field is never closed",
    "expected after": "something follows the quote that closes a field",
    "line contains NUL": "it holds a NUL character",
}


def csv_rows(lines: Iterator[Line], file: str, dialect: Dialect) -> Iterator[dict[str, str]]:
    """Yields each data row as {column: text}. Raises InvalidInput: header, ragged or blank row, quotes, encoding.

    The dialect is whole: `recognised` makes it so.
    """
    records = _records(lines, file, dialect)
    if dialect.has_header:
        next(records, None)
    if not dialect.columns:
        raise refusal("there is no header.", file, "Put the names of the columns in the first line.")
    header = checked_columns(dialect.columns, file, may_be_a_row=dialect.has_header)
    known = "the header has" if dialect.has_header else "the names given are"
    blank: int | None = None
    for row, record in enumerate(records, start=1):
        if not record:
            blank = blank or row
            continue
        if blank is not None:
            # Blank lines at the end are harmless; one between rows may be a row whose only field got lost.
            raise refusal("the row is blank.", file, 'Remove the line, or write an empty field as "".', blank)
        if row == 1 and not dialect.has_header and record == header:
            remedy = "Leave the names of the columns out when the file has them."
            raise refusal("the first line holds the names of the columns.", file, remedy, row)
        if len(record) != len(header):
            message = f"the row has {len(record)} fields, {known} {len(header)}"
            raise refusal(f"{message} (read as {dialect}).", file, _remedy(dialect), row)
        yield dict(zip(header, record, strict=True))


def split_records(lines: Iterable[str], dialect: Dialect, *, strict: bool = True) -> Iterator[Record]:
    """The fields of each record, none for a blank line. Raises csv.Error."""
    delimiter = dialect.delimiter or ","
    if dialect.quote != "none":
        return csv.reader(
            lines,
            delimiter=delimiter,
            quotechar=dialect.quote or '"',
            strict=strict,
            skipinitialspace=dialect.skip_initial_space,
        )
    return (_unquoted(line, delimiter) for line in lines)


def _unquoted(line: str, delimiter: str) -> Record:
    text = line.removesuffix("\n").removesuffix("\r")
    fields = text.split(delimiter) if text else []
    if len(line) > FIELD_CHARS_MAX and max(map(len, fields)) > FIELD_CHARS_MAX:
        raise csv.Error("field larger than field limit")
    return fields


def _records(lines: Iterator[Line], file: str, dialect: Dialect) -> Iterator[Record]:
    """The records; a header is number 0. Errors get the row and the physical line it starts on."""
    line_number, last = 0, ""

    def texts() -> Iterator[str]:
        nonlocal line_number, last
        for line in lines:
            line_number, last = line.number, line.text
            if line_number > dialect.skip_lines:
                yield line.text

    records = split_records(texts(), dialect)
    for row in itertools.count(0 if dialect.has_header else 1):
        first_line = max(line_number, dialect.skip_lines) + 1
        try:
            record = next(records, None)
        except csv.Error as error:
            why = next((ours for theirs, ours in _CSV_ERRORS.items() if theirs in str(error)), "its fields are unclear")
            message = f"the row that starts on line {first_line} can't be read: {why} (read as {dialect})."
            raise refusal(message, file, _remedy_of(why, last) + _remedy(dialect), row or None) from error
        except BadLine as error:
            raise refusal(error.message, file, error.remedy, row or None) from error
        if record is None:
            return
        yield record


def _remedy_of(why: str, line: str) -> str:
    """For what has nothing to do with the dialect."""
    if "(CR)" in why:
        return "Write all line ends as LF or CRLF. "
    if "follows" in why and _SPACES_BEHIND.search(line):
        return "Remove the spaces behind quotes that close fields. "
    if '\\"' in line:
        return 'Quotes within fields are written \\" here: write each as "", as Python\'s csv.writer does. '
    return ""


def _remedy(dialect: Dialect) -> str:
    if dialect.quote == "none":
        return (
            "Say how the file is written if that is wrong: --delimiter, --quote. Without quotes no field holds either."
        )
    return (
        "Say how the file is written if that is wrong: --delimiter, --quote (none where quotes are text). Else put "
        f"fields that hold the delimiter or a line end in {dialect.quote} and write a quote inside twice."
    )
