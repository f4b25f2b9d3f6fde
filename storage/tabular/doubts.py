"""What a file of an unassuming format may be as well: said when it is pushed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice

from jobspecs.profile import ColumnProfile
from storage.tabular.formats import TABLE_BYTES_MAX, TableFormat
from storage.tabular.reading import read_rows
from storage.tabular.stored import Stored

_LOOKED_AT = 50
#: What tables in .txt files are parted by; commas stand in texts.
_PARTING = "\t|;"
_QUOTED_FIELDS = re.compile(r'"[^"]*"(?: (?:"[^"]*"|[^\s"]+))+')


def doubts_of_texts(path: Stored, fmt: TableFormat, file: str, *, max_bytes: int = TABLE_BYTES_MAX) -> list[str]:
    """Notices of a .txt file whose lines look like rows of a table, or hold labels. Raises what `read_rows` does."""
    if fmt.kind != "text":
        return []
    rows = read_rows(path, fmt, file_name=file, max_bytes=max_bytes)
    texts = [str(row["text"]) for row in islice(rows, _LOOKED_AT)]
    if len(texts) < 2:
        return []
    if all(text.startswith("__label__") for text in texts):
        return ["Lines begin with __label__, as fastText's do: the labels are part of the texts here."]
    if all(map(_QUOTED_FIELDS.fullmatch, texts)):
        return [
            "Every line holds fields in quotes with spaces between, as R's write.table writes, and is one text here. "
            "If the file is a table, name it .csv and push with --delimiter ' '."
        ]
    for character in _PARTING:
        counts = {text.count(character) for text in texts}
        if len(counts) == 1 and counts != {0}:
            return [
                f"Every line holds {character!r} equally often and is taken as one text. "
                "If the file is a table, name it .csv, and .tsv where tabs part the fields."
            ]
    return []


def doubts_of_columns(columns: Mapping[str, ColumnProfile]) -> list[str]:
    """Notices of columns whose values say that some rows are not meant."""
    answers = set(columns["answer"].values) if "answer" in columns else set()
    if answers <= {"accept", "reject", "ignore"} and answers & {"reject", "ignore"}:
        return ["The column answer holds reject or ignore, as Prodigy writes: such rows are rows like others here."]
    return []
