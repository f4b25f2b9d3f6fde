"""Which character separates the fields of a text table, and whether quotes quote them or are text."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from jobspecs.dialect import DELIMITER_NAMES, Dialect, Quote
from storage.tabular.csv_rows import Record, split_records
from storage.tabular.formats import refusal

#: What is separated by these is seldom quoted: corpora, dumps of databases.
_RARELY_QUOTED = ("\t", "|")
#: Those that are recognised, where a file's ending tells another, and those of dumps and logs.
_OTHER_DELIMITERS = ",;\t|^~\x01\x1f:#"
_SPACED = re.compile('(?:^|[,;|\\t]) +"')
_QUOTES: tuple[Quote, ...] = ('"', "none", "'")


def with_delimiter(sample: Sequence[str], dialect: Dialect, cut: bool) -> Dialect:
    """The dialect with the delimiter that explains the first lines best. `cut`: more lines follow.

    Quotes are set only if these lines need '; whether " quotes all lines have to tell.
    """
    fits: dict[tuple[Quote, str], tuple[bool, int]] = {}
    for quote in _QUOTES if dialect.quote is None else (dialect.quote,):
        for delimiter in DELIMITER_NAMES.values() if dialect.delimiter is None else (dialect.delimiter,):
            found = dialect.model_copy(update={"quote": quote, "delimiter": delimiter})
            fits[quote, delimiter] = _fit(sample_records(sample, found, cut, strict=True))
        best = max((choice for choice in fits if choice[0] == quote), key=lambda choice: fits[choice])
        if fits[best][0]:
            single = "'" if quote == "'" else None
            return dialect.model_copy(update={"delimiter": best[1], "quote": dialect.quote or single})
    # Nothing explains them: the header tells most.
    best = max(fits, key=lambda choice: fits[choice][1])
    return dialect.model_copy(update={"delimiter": best[1]})


def with_quote(lines: Callable[[], Iterator[str]], dialect: Dialect, file: str, notices: list[str]) -> Dialect:
    """The dialect with what quotes its fields, after all lines were read: a quote that is text may be on the last one.

    Raises InvalidInput where both readings make a table, but not the same one.
    """
    plain = _shape_of(lines(), _with(dialect, "none"))
    if not plain.opening:
        return _with(dialect, "'" if plain.single else '"')
    if not plain.is_table:
        return _with(dialect, '"')
    quoted = _shape_of(lines(), _with(dialect, '"'))
    if dialect.delimiter not in _RARELY_QUOTED:
        if quoted.is_table and quoted.joined_line is not None:
            message = (
                f"quotes join lines from line {quoted.joined_line} on, but without quoting every line is a whole row."
            )
            raise refusal(
                message, file, "Say which: --quote none where quotes are text, or --quote '\"'.", field="quote"
            )
        return _with(dialect, '"')
    if quoted.is_table and quoted.joined_line is None and plain.widths == quoted.widths:
        return _with(dialect, '"')
    notices.append("Quotes are read as text: as quotes they would join lines or fields. Else push with --quote '\"'.")
    return _with(dialect, "none")


def sample_records(sample: Sequence[str], dialect: Dialect, cut: bool, strict: bool = False) -> list[Record]:
    """The records of these lines that are not blank; without the last, which may be cut, if more lines follow.

    `strict`: none where the lines are not of this dialect; else those up to the place where they are not.
    """
    found: list[Record] = []
    try:
        for record in split_records(iter(sample), dialect, strict=strict):
            found.append(record)
    except csv.Error as error:
        # The end of the sample may be within a field.
        return [] if strict and not (cut and "unexpected end" in str(error)) else [each for each in found if each]
    if cut and len(found) > 1:
        found.pop()
    return [record for record in found if record]


def spaced(sample: Sequence[str], dialect: Dialect, cut: bool) -> bool:
    """Whether quotes follow spaces behind delimiters, so that they quote only if these are left out."""
    if not any(_SPACED.search(line) for line in sample):
        return False
    skipping = dialect.model_copy(update={"skip_initial_space": True})
    plain, skipped = (
        sample_records(sample, with_delimiter(sample, each, cut), cut, strict=True) for each in (dialect, skipping)
    )
    bare = [[[cell.strip() for cell in record] for record in records] for records in (plain, skipped)]
    return bare[0] != bare[1] and _fit(skipped)[0] and not any('"' in cell for record in skipped for cell in record)


def hidden_quotes(sample: Sequence[str], dialect: Dialect, cut: bool) -> list[str]:
    """A notice where fields hold quotes as text, for spaces before and behind keep them from quoting."""
    records = sample_records(sample, dialect, cut)
    for record in records if dialect.quote == '"' else ():
        for cell in record:
            bare = cell.strip()
            if bare != cell and len(bare) > 1 and bare[0] == bare[-1] == '"':
                return [f"Quotes with spaces around are text, as in {cell!r}: if they quote, remove these spaces."]
    return []


def other_delimiter(sample: Sequence[str]) -> list[str]:
    """A notice where every line of a table with one column holds another character equally often."""
    for character in _OTHER_DELIMITERS:
        counts = {line.count(character) for line in sample if line.strip()}
        if len(counts) == 1 and counts != {0}:
            return [f"Every line has one field. If {character!r} parts them, push with --delimiter {character!r}."]
    return []


@dataclass
class _Shape:
    """What all records of a file are like: the numbers of fields that they have, none if they are not of a dialect."""

    widths: set[int] = field(default_factory=set)
    #: Whether a field opens with a quote.
    opening: bool = False
    #: Whether all fields of the first stand in single quotes.
    single: bool = False
    #: The first line that a quoted field joins with the next.
    joined_line: int | None = None

    @property
    def is_table(self) -> bool:
        return len(self.widths) == 1 and self.widths != {1}


def _shape_of(lines: Iterator[str], dialect: Dialect) -> _Shape:
    """What is asked of it; read no further than it takes to tell."""
    shape, before, count = _Shape(), 0, 0

    def counted() -> Iterator[str]:
        nonlocal count
        for line in lines:
            count += 1
            yield line

    try:
        for record in split_records(counted(), dialect):
            if record and not shape.widths:
                shape.single = all(len(cell) > 1 and cell[0] == cell[-1] == "'" for cell in record)
            if record:
                shape.widths.add(len(record))
            shape.opening = shape.opening or any(cell.startswith('"') for cell in record)
            if count - before > 1 and shape.joined_line is None:
                shape.joined_line = before + 1 + dialect.skip_lines
            before = count
            if shape.opening and len(shape.widths) > 1:
                # No table, and nothing else is asked: a quote left open before 20 MB of lines cost 100 s.
                return shape
    except csv.Error:
        return _Shape(opening=shape.opening)
    return shape


def _fit(records: list[Record]) -> tuple[bool, int]:
    """How well records explain lines: first that all of them have equally many fields, then how many.

    One field each explains nothing: any unused character does that, also for a ragged table.
    """
    widths = [len(record) for record in records]
    columns = widths[0] if widths else 0
    return columns > 1 and len(set(widths)) == 1, columns


def _with(dialect: Dialect, quote: Quote) -> Dialect:
    return dialect.model_copy(update={"quote": quote})
