"""Columns of ids that stand for texts of another file, as those of relevance judgements do."""

from __future__ import annotations

import re
from collections.abc import Mapping

from jobspecs.problems import Problem

#: `q12`, `D_301-4`, `MSMARCO/12`, a UUID.
_ID = re.compile(r"[A-Za-z]{0,12}[-_:./#]?\d+(?:[-_:.]\d+)*|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


class Identifiers:
    """Which columns hold ids alone. A single text among them tells that there are none."""

    def __init__(self) -> None:
        self._columns: dict[str, str | None] = {}

    def add(self, texts: Mapping[str, str]) -> None:
        """The texts of a row, by column."""
        for column, text in texts.items():
            if self._columns.get(column, text) is not None:
                self._columns[column] = text if _ID.fullmatch(text) else None

    def warnings(self) -> list[Problem]:
        return [
            Problem(
                field=column,
                message=f"every value is an id, such as {example!r}: the job would learn ids, not texts.",
                remedy="Put the texts that they stand for into the table: join it with their file.",
            )
            for column, example in self._columns.items()
            if example is not None
        ]
