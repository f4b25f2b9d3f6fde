"""What is said of rows that can be used."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Remark:
    """What is worth a warning about a row that can be used. Equal ones are counted and said once."""

    field: str
    message: str
    remedy: str


#: How R, pandas, Excel, SQL, SPSS and Stata write that there is no value.
_MISSING = frozenset(
    ("nan", "NaN", "NAN", "NA", "N/A", "n/a", "#N/A", "#NV", "<NA>", "NULL", "null", "None", "\\N", ".")
)
_BYTES = re.compile(r"""b(['"]).*\1""", re.DOTALL)
_WRITTEN = re.compile(r"""\[\s*['"].*['"]\s*\]|\{\s*['"].*\}""", re.DOTALL)
#: UTF-8 that was read as cp1252 or Latin-1: two letters for one.
_TWICE = re.compile(
    "\u00c3[\u00a4\u00b6\u00bc\u0178\u00a9\u00a8\u00a0\u201e\u2013\u0153]|\u00e2\u20ac[\u0153\u017e\u0161\u2122\u201c\u201d\u00a6]"
)
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|nbsp|apos|[aouAOU]uml|szlig|#\d{2,5}|#x[0-9a-fA-F]{2,4});")
_LEFT_OUT = "Leave such rows out, unless it is meant."


def remarks_of_label(given: object, label: str) -> Iterable[Remark]:
    """What of a cell was left out in the name of its class."""
    if isinstance(given, str) and given != label:
        yield Remark("label", "spaces around labels are left out.", "Remove them where the file is written.")


def remarks_of_text(text: str, field: str, *, cell: bool = True) -> Iterable[Remark]:
    """What of a text a program wrote, and nobody meant.

    `cell`: of a table, where nobody means lists, objects and HTML; answers of language models may be these.
    """
    if text in _MISSING:
        yield Remark(field, f"{text!r} is how programs write that there is no value; it is read as a text.", _LEFT_OUT)
    if _BYTES.fullmatch(text):
        remedy = "Decode bytes before they are written: value.decode()."
        yield Remark(field, "texts are bytes as Python writes them (b'...').", remedy)
    if cell and _WRITTEN.fullmatch(text):
        message = "texts are lists or objects as programs write them (['...'], {'...': ...})."
        yield Remark(field, message, "Write the texts that they hold.")
    if not text.isascii() and _TWICE.search(text):
        remedy = "Decode the file once more where it was made: text.encode('cp1252').decode()."
        yield Remark(
            field,
            "texts were decoded in the wrong way: two letters stand for one, such as \u00c3\u00a4 for \u00e4.",
            remedy,
        )
    if cell and "&" in text and (found := _ENTITY.search(text)):
        remedy = "Unescape them where the file is made: html.unescape(text)."
        yield Remark(field, f"texts hold characters as HTML writes them, such as {found[0]}.", remedy)
