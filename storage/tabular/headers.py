"""The names of a text table's columns, from its first line or its first row."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: The name of a first column that has none, as pandas writes its index.
INDEX = "index"
_VALUE = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?%?|\d{4}-\d\d-\d\d.*|\d{1,2}[./]\d{1,2}[./]\d{2,4}.*", re.ASCII)
#: Names have fewer words than sentences.
_WORDS_MAX = 5


def named_columns(header: Sequence[str], rows: Sequence[Sequence[str]], notices: list[str]) -> tuple[str, ...]:
    """The names that a header gives; `rows` are some that follow it. Says what was changed, and what looks wrong.

    Spaces round names go. A first column without a name is the index, others are called by their place.
    """
    names = [name.strip() for name in header]
    if not any(names):
        return ()
    spaced = [name for name in header if name.strip() != name and name.strip()]
    if spaced:
        notices.append(f"Spaces round the names of columns are left out: {', '.join(map(repr, spaced))}.")
    if len(names) > 1 and rows and all(len(row) == len(names) + 1 for row in rows):
        # As R writes the names of rows. Of a single name it is likelier that the delimiter is another.
        names.insert(0, "")
        notices.append(f"The rows have one field more than the header: the first is taken as {_free(INDEX, names)!r}.")
    elif not names[0]:
        notices.append(f"The first column has no name and is taken as {_free(INDEX, names)!r}.")
    for place, name in enumerate(names):
        if not name:
            names[place] = _free(INDEX if place == 0 else f"column_{place + 1}", names)
            if place:
                notices.append(f"Column {place + 1} has no name and is taken as {names[place]!r}.")
    why = _looks_like_a_row(header, rows)
    if why:
        example = ",".join("ABCDEFGHIJ"[: len(names)])
        notices.append(
            f"The first line looks like a row, for it holds {why!r}, but was taken as the names of the columns. "
            f"If it is one, push with --columns {example}."
        )
    return tuple(names)


def _free(name: str, taken: Sequence[str]) -> str:
    return next(free for number in range(len(taken) + 1) if (free := name + "_" * number) not in taken)


def _looks_like_a_row(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str | None:
    """The field of the header that looks like a value: a number, a date, a sentence, or one that comes again below."""
    for place, name in enumerate(header):
        text = name.strip()
        below = {row[place] for row in rows if place < len(row)}
        if text and (_VALUE.fullmatch(text) or text[0] in "\"'" or len(text.split()) > _WORDS_MAX or name in below):
            return shortened(text)
    return None


def shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
