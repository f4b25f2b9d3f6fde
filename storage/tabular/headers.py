"""The names of a text table's columns, from its first line or its first row."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from jobspecs.labels import INVISIBLE, visible

#: The name of a first column that has none, as pandas writes its index.
INDEX = "index"
_VALUE = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?%?|\d{4}-\d\d-\d\d.*|\d{1,2}[./]\d{1,2}[./]\d{2,4}.*", re.ASCII)
#: Names have fewer words than sentences.
_WORDS_MAX = 5
#: Words of most names: what has more may be a short text, `what is a lobster`.
_NAME_WORDS = 2


def named_columns(header: Sequence[str], rows: Sequence[Sequence[str]], notices: list[str]) -> tuple[str, ...]:
    """The names that a header gives; `rows` are some that follow it. Says what was changed, and what looks wrong.

    Spaces round names go, and what nobody sees of them. A first column without a name is the index, others are called
    by their place.
    """
    names = [_plain(name) for name in header]
    if not any(names):
        return ()
    _say_what_was_mended(header, names, notices)
    wider = len(names) > 1 and bool(rows) and all(len(row) == len(names) + 1 for row in rows)
    if wider and _end_with_a_delimiter(rows):
        names.append("")
    elif wider and _names_rows(rows):
        # Of a single name it is likelier that the delimiter is another.
        names.insert(0, "")
        notices.append(f"The rows have one field more than the header: the first is taken as {_free(INDEX, names)!r}.")
    elif not names[0]:
        notices.append(f"The first column has no name and is taken as {_free(INDEX, names)!r}.")
    unnamed = [place for place, name in enumerate(names) if not name]
    for place in unnamed:
        names[place] = _free(INDEX if place == 0 else f"column_{place + 1}", names)
    given = [names[place] for place in unnamed if place]
    if len(given) == 1:
        notices.append(f"Column {unnamed[-1] + 1} has no name and is taken as {given[0]!r}.")
    elif given:
        taken = ", ".join(map(repr, given[:3])) + (", …" if len(given) > 3 else "")
        notices.append(f"{len(given)} columns have no name and are taken as {taken}.")
    why = looks_like_a_row(header, rows) or (_text_of_several(header) if len(header) > 1 else None)
    if why:
        example = ",".join("ABCDEFGHIJ"[: len(names)])
        notices.append(
            f"The first line looks like a row, for it holds {why!r}, but was taken as the names of the columns. "
            f"If it is one, push with --columns {example}."
        )
    return tuple(names)


def _free(name: str, taken: Sequence[str]) -> str:
    return next(free for number in range(len(taken) + 1) if (free := name + "_" * number) not in taken)


def _say_what_was_mended(header: Sequence[str], names: Sequence[str], notices: list[str]) -> None:
    spaced = [name for name, seen in zip(header, names, strict=True) if seen and name != seen and name.strip() == seen]
    if spaced:
        notices.append(f"Spaces round the names of columns are left out: {', '.join(map(repr, spaced))}.")
    unseen = [name for name, seen in zip(header, names, strict=True) if seen and name.strip() != seen]
    if unseen:
        message = "Invisible characters in names of columns are left out, and their letters composed"
        notices.append(f"{message}: {', '.join(map(ascii, unseen))}.")


def _plain(name: str) -> str:
    """Without what nobody sees; an accent that is a character of its own joins its letter, as everybody types it."""
    return visible(name) if any(map(unicodedata.combining, name)) else name.translate(INVISIBLE).strip()


def _end_with_a_delimiter(rows: Sequence[Sequence[str]]) -> bool:
    """Whether hardly any row has something behind its last delimiter, and what some have is no field that was cut."""
    filled = [row for row in rows if row[-1].strip()]
    return 2 * len(filled) < len(rows) and not any(map(is_cut, filled))


def _names_rows(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first fields name the rows, as R writes them: numbers or short names, no two alike.

    In doubt they don't, for each cell would get another column: the rows are refused as longer than the header.
    """
    names = {row[0] for row in rows}
    named = all(len(name.split()) == 1 and any(map(str.isdecimal, name)) for name in names)
    mostly_whole = 2 * sum(bool(row[-1].strip()) for row in rows) > len(rows)
    return named and len(names) == len(rows) and mostly_whole and not any(map(is_cut, rows))


def is_cut(row: Sequence[str]) -> bool:
    """Whether a delimiter that is text seems to have cut a field: people write a space behind commas."""
    return any(cell.startswith(" ") for cell in row[1:])


def looks_like_a_row(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str | None:
    """The field of the header that looks like a value: a number, a date, a sentence, or one that comes again below."""
    for place, name in enumerate(header):
        text = name.strip()
        below = {row[place] for row in rows if place < len(row)}
        if text and (_VALUE.fullmatch(text) or text[0] in "\"'" or len(text.split()) > _WORDS_MAX or name in below):
            return shortened(text)
    return None


def _text_of_several(header: Sequence[str]) -> str | None:
    """The field of the header that may be a short text: it ends as a sentence does, or begins small and goes on."""
    for text in map(str.strip, header):
        if len(text.split()) > 1 and (text[-1] in ".!?" or (text[0].islower() and len(text.split()) > _NAME_WORDS)):
            return shortened(text)
    return None


def shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
