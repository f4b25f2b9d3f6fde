"""When two spellings are one class: `gut`, `GUT` and `gut` with a zero-width space; `1`, `1.0` and `true`."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping

#: Characters that nobody sees: soft hyphen, zero-width spaces and joiners, byte order mark.
INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))
#: `007` and `3.10` may be names; `7.0` is a number, and so are 7 and `7,0`, but `7,000` may be seven thousand.
_WHOLE = re.compile(r"([+-]?)(\d+)(?:\.0+|,00?)", re.ASCII)
_TRUTH = {"true": "1", "false": "0"}


def visible(text: str) -> str:
    """The text in Unicode's composed form, without invisible characters and spaces around it."""
    return unicodedata.normalize("NFC", text).translate(INVISIBLE).strip()


def tidy(label: str) -> str:
    """The label as `visible`, with single spaces between its words."""
    return " ".join(visible(label).split())


def same_class(label: str) -> str:
    """Equal for labels that mean one class and differ only in how they are written."""
    key = unicodedata.normalize("NFC", tidy(label).casefold())
    if key in _TRUTH:
        return _TRUTH[key]
    if (whole := _WHOLE.fullmatch(key)) is not None:
        key = whole[1] + whole[2]
    return "0" if key in ("-0", "+0") else key


def class_rows(counts: Mapping[str, int]) -> dict[str, tuple[str, int]]:
    """Class -> one of its spellings and its rows, at most: which spellings are one is for the check of all rows."""
    rows = Counter[str]()
    for label, count in counts.items():
        rows[same_class(label)] += count
    return {same_class(label): (label, rows[same_class(label)]) for label in counts}


def spellings(counts: Mapping[str, int]) -> list[tuple[str, ...]]:
    """The classes that are written in several ways; the most frequent spelling of each first."""
    found = defaultdict(list)
    for label in counts:
        found[same_class(label)].append(label)
    several = (labels for labels in found.values() if len(labels) > 1)
    return [tuple(sorted(labels, key=lambda label: (-counts[label], label))) for labels in several]


def normalized(counts: Mapping[str, int]) -> dict[str, str]:
    """Label -> the one spelling of its class: the most frequent one, tidied. `counts`: rows of each label."""
    first = {same_class(labels[0]): labels[0] for labels in spellings(counts)}
    return {label: tidy(first.get(same_class(label), label)) or label for label in counts}
