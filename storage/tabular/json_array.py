"""Rows of a JSON file whose elements are rows: an array, lines, an array below one key, or an object of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from jobspecs.layouts import Layout
from storage.tabular.formats import refusal
from storage.tabular.json_rows import checked_row, is_encoded_twice
from storage.tabular.json_text import REMEDY, JsonText

#: The column that takes what pandas calls the index, and its name where there is such a column already.
INDEX = "index"
INDEX_BESIDE = "level_0"


def element_rows(stream: IO[bytes], file: str, layout: Layout) -> Iterator[dict[str, Any]]:
    """Yields each object; a text alone counts as {"text": ...}. Raises InvalidInput with the row."""
    text = JsonText(stream, file)
    match layout.container:
        case "lines":
            yield from _lines(text, file)
        case "below":
            yield from _below(text, file, str(layout.key))
        case "index":
            yield from _by_index(text, file)
        case _:
            yield from _array(text, file)
            text.end(
                "array",
                "Is there one array per line? Write each as the object that it belongs to, such as "
                '{"messages": [...]}.',
            )


def skip_value(text: JsonText, place: str) -> None:
    """Passes a value of any size."""
    if text.next_sign() == "[":
        for number in text.elements():
            text.value(f"element {number} of {place}")
    elif text.next_sign() == "{":
        for key in text.members(place):
            text.value(f"{key!r} of {place}")
    else:
        text.value(place)


def _array(text: JsonText, file: str) -> Iterator[dict[str, Any]]:
    if text.next_sign() != "[":
        raise refusal(f"the file doesn't hold an array: it begins with {text.next_sign()!r}.", file, REMEDY)
    for row in text.elements():
        value = text.value(f"element {row}", row)
        plain = isinstance(value, str) and not is_encoded_twice(value)
        yield checked_row({"text": value} if plain else value, f"element {row}", file, row)


def _lines(text: JsonText, file: str) -> Iterator[dict[str, Any]]:
    row = 0
    while text.next_sign():
        row += 1
        yield checked_row(text.value(f"object {row}", row), f"object {row}", file, row)


def _below(text: JsonText, file: str, wanted: str) -> Iterator[dict[str, Any]]:
    found = False
    for key in text.members("the file"):
        if key == wanted:
            found = True
            yield from _array(text, file)
        else:
            skip_value(text, repr(key))
    if not found:
        raise refusal(f"there is no key {wanted!r}.", file, "Name the key below which the rows are: below:KEY.")
    text.end("object")


def _by_index(text: JsonText, file: str) -> Iterator[dict[str, Any]]:
    for row, key in enumerate(text.members("the file"), start=1):
        values = checked_row(text.value(f"the object of {key!r}", row), f"the object of {key!r}", file, row)
        yield {INDEX if INDEX not in values else INDEX_BESIDE: key, **values}
    text.end("object")
