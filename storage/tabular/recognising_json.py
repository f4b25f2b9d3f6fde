"""Which layout a JSON file has, said in words. One pass that holds no more than reading does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import IO

from jobspecs.layouts import Layout
from storage.tabular.formats import COLUMNS_MAX, PLAIN, refusal
from storage.tabular.json_text import REMEDY, JsonText

#: Keys of an object that are looked into; one that has more goes row by row.
_KEYS_MAX = COLUMNS_MAX
_NAMED_MAX = 8


@dataclass
class _Member:
    """What is below one key of the file's object."""

    kind: str = "value"
    #: Elements of an array, members of an object.
    count: int = 0
    #: Kinds of the elements: `object`, `list`, `value`.
    holds: set[str] = field(default_factory=set)
    #: Whether all keys of an object are whole numbers, as the labels of rows mostly are.
    numbered: bool = True

    @property
    def rows(self) -> bool:
        return self.kind == "list" and self.holds == {"object"}


def recognise_json(open_file: Callable[[], AbstractContextManager[IO[bytes]]], file: str) -> tuple[Layout, str | None]:
    """The layout and a notice; no notice for an array. Raises InvalidInput, which says how to tell the layout."""
    with open_file() as stream:
        text = JsonText(stream, file)
        if text.next_sign() != "{":
            return PLAIN, None
        found = {key: _looked_at(text, key) for key in islice(text.members("the file"), _KEYS_MAX)}
        if len(found) < _KEYS_MAX:
            if text.next_sign() == "{":
                return Layout("lines"), "Every line holds an object."
            text.end("object")
    return _decide(found, file)


def _looked_at(text: JsonText, key: str) -> _Member:
    sign = text.next_sign()
    member = _Member(_kind(sign))
    if sign == "[":
        for member.count in text.elements():
            member.holds.add(_kind(text.next_sign()))
            text.value(f"element {member.count} of {key!r}")
    elif sign == "{":
        for label in text.members(repr(key)):
            member.count += 1
            member.numbered = member.numbered and _is_number(label)
            member.holds.add(_kind(text.next_sign()))
            text.value(f"{label!r} of {key!r}")
    else:
        text.value(f"the value of {key!r}")
    return member


def _decide(found: Mapping[str, _Member], file: str) -> tuple[Layout, str | None]:
    members = list(found.values())
    split = found.get("columns"), found.get("data")
    if all(member and member.kind == "list" for member in split) and _holds(split[1], "list"):
        return Layout("split"), 'The names are below "columns", the rows below "data": pandas\' orient="split".'
    same_size = len({member.count for member in members}) == 1 and members[0].count > 0
    candidates = [key for key, member in found.items() if member.rows]
    if same_size and all(member.kind == "list" for member in members) and len(candidates) < len(found):
        return Layout("columns"), "Every key is a column, and its list the values."
    if len(candidates) == 1:
        beside = _named([key for key in found if key not in candidates])
        notice = f'The rows are the array below "{candidates[0]}"'
        notice += f"; not read beside it: {beside}." if beside else "."
        return Layout("below", candidates[0]), notice
    if candidates:
        message = f"the rows may be below any of {_named(candidates)}."
        raise refusal(message, file, f"Say below which: --layout below:{candidates[0]}")
    if members and all(member.kind == "object" and member.count for member in members) and _may_be_columns(found):
        return _by_orient(found, same_size, file)
    raise refusal("the file doesn't hold an array, and no key of its object holds one of objects.", file, REMEDY)


def _may_be_columns(found: Mapping[str, _Member]) -> bool:
    """Rows and columns hold lists by their labels, which are numbers; else the lists are rows further below."""
    return any(member.holds != {"list"} or member.numbered for member in found.values())


def _by_orient(found: Mapping[str, _Member], same_size: bool, file: str) -> tuple[Layout, str]:
    if same_size and all(member.numbered for member in found.values()):
        return Layout("columns"), "Every key is a column, and its object the values, as pandas writes them."
    if all(_is_number(key) for key in found):
        return Layout("index"), 'Every key is the number of a row, which is the column "index", and its object the row.'
    message = "the file holds an object of objects, which may be its columns or its rows."
    raise refusal(message, file, "Say which: --layout columns, or --layout index when each of them is a row.")


def _holds(member: _Member | None, kind: str) -> bool:
    return member is not None and member.holds == {kind}


def _kind(sign: str) -> str:
    return {"[": "list", "{": "object"}.get(sign, "value")


def _is_number(label: str) -> bool:
    return label.removeprefix("-").isdecimal()


def _named(keys: list[str]) -> str:
    shown = ", ".join(keys[:_NAMED_MAX])
    return shown + (f" and {len(keys) - _NAMED_MAX} more" if len(keys) > _NAMED_MAX else "")
