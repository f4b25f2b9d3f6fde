"""Lines before the names of the columns: titles and comments, as reports and exports have them."""

from __future__ import annotations

from collections.abc import Sequence

from jobspecs.dialect import Dialect
from storage.tabular.headers import is_cut, looks_like_a_row
from storage.tabular.quoting import sample_records, with_delimiter

#: Lines of titles, and lines behind them that have to be alike.
_TITLES_MAX = 5
_LINES = 25


def title_rows(records: Sequence[Sequence[str]]) -> int:
    """How many records of a table hold one cell at most, the first, before one that has no empty cell."""
    for place, record in enumerate(records[: _TITLES_MAX + 1]):
        if any(cell.strip() for cell in record[1:]) or (not place and not record[0].strip()):
            return place if place and _are_names(record, records[place + 1 :]) and _sure(records[:place]) else 0
    return 0


def title_lines(sample: Sequence[str], dialect: Dialect, cut: bool) -> int:
    """How many of the first lines are no part of the table that the lines behind them make; 0 unless that is sure."""
    cut = cut or len(sample) > _LINES
    sample = sample[:_LINES]
    for skipped in range(min(_TITLES_MAX + 1, len(sample))):
        rest = sample[skipped:]
        found = with_delimiter(rest, dialect, cut)
        records = sample_records(rest, found, cut)
        if len(records) < 2 or len(records[0]) < 2 or len({len(record) for record in records}) > 1:
            continue
        if not skipped and not title_rows(records):
            return 0
        above = [record for line in sample[:skipped] for record in sample_records([line], found, False) or [[""]]]
        if skipped and any(cell.strip() for cell in records[0][1:]):
            titles = all(sum(bool(cell.strip()) for cell in record) < 2 for record in above)
            sure = titles and _are_names(records[0], records[1:]) and (_sure(above) or not rest[0].strip())
            return skipped + next(place for place, line in enumerate(rest) if line.strip()) if sure else 0
    return 0


def _are_names(record: Sequence[str], behind: Sequence[Sequence[str]]) -> bool:
    if not behind or is_cut(record) or all(map(is_cut, behind[:_LINES])):
        return False
    return all(cell.strip() for cell in record) and not looks_like_a_row(record, behind[:_LINES])


def _sure(above: Sequence[Sequence[str]]) -> bool:
    """Not the only name of several columns: a title of several words, a comment, or a blank line behind it."""
    first = above[0][0]
    return first.startswith("#") or len(first.split()) > 1 or not any(map(str.strip, above[-1]))
