"""How the text of a table's file becomes rows: what a user told of it, and what was recognised for the rest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from jobspecs.layouts import parse_layout
from jobspecs.problems import Problem

#: Names that people use for delimiters, and the delimiters that are recognised, in the order of preference.
DELIMITER_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
_NAMES_OF_DELIMITERS = {delimiter: name for name, delimiter in DELIMITER_NAMES.items()}
#: The character sets that a file may have. Only UTF-8, UTF-16 and UTF-32 with a mark, and cp1252 are ever recognised.
ENCODINGS = (
    *("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "iso8859-1", "iso8859-2", "iso8859-15"),
    *("cp437", "cp850", "cp1250", "cp1251", "mac-roman", "koi8-r", "shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"),
)
_ALIASES = {"latin1": "iso8859-1", "latin2": "iso8859-2", "latin9": "iso8859-15", "macintosh": "mac-roman"}

#: How refusals and notices spell a character that can't be typed, such as Hive's.
_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})")

Quote = Literal["none", '"', "'"]
LineEnd = Literal["LF", "CRLF", "CR"]


class Dialect(BaseModel):
    """What of it is None was not told, or the format has no such thing. A version of a data set keeps it whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delimiter: str | None = Field(default=None, description="comma, semicolon, tab, pipe or another single character")
    quote: Quote | None = Field(default=None, description="what quotes a field: \", ' or none")
    #: Whether spaces behind a delimiter are left out: some write `a, "b, c"`.
    skip_initial_space: bool = False
    encoding: str | None = None
    line_end: LineEnd | None = None
    #: Lines before the header, or before the first row: blank ones, and Excel's `sep=;`.
    skip_lines: int = Field(default=0, ge=0)
    #: Names of the columns.
    columns: tuple[str, ...] | None = None
    #: Whether a line, or the sheet's first row, holds the names of the columns and is no row.
    has_header: bool = True
    #: The sheet of a workbook, by its name, or by its number from 1 on.
    sheet: str | None = Field(default=None, min_length=1, max_length=255)

    #: Where the rows of a JSON file are, and whether they are questions about paragraphs: a `jobspecs.layouts.Layout`.
    layout: str | None = Field(default=None, max_length=1000)

    #: Of a tar: its files, which together are the table.
    files: tuple[PartFile, ...] = ()

    @field_validator("layout")
    @classmethod
    def _a_layout(cls, value: str | None) -> str | None:
        return None if value is None else str(parse_layout(value))

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        if value is not None:
            value = DELIMITER_NAMES.get(value.lower(), "\t" if value == "\\t" else value)
        if value is not None and (escape := _ESCAPE.fullmatch(value)):
            value = chr(int(escape[1], 16))
        if value is not None and (len(value) != 1 or value in "\"'\r\n\0"):
            raise ValueError("is not one character. Say comma, semicolon, tab, pipe or a single character.")
        return value

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        known = None if value is None else _known_encoding(value)
        if value is not None and known is None:
            raise ValueError(f"is not known. Use one of: {', '.join(ENCODINGS)}.")
        return known

    def place(self, row: int) -> tuple[str | None, int]:
        """Which of several files holds a row of the whole table, and its number there; None: there is one file."""
        for part in self.files:
            if row <= part.rows:
                return part.name, row
            row -= part.rows
        return None, row

    def row_name(self, row: int) -> str:
        """The row for people: `7`, or `2 of b.csv`."""
        file, own = self.place(row)
        return str(row) if file is None else f"{own} of {file}"

    def located(self, problem: Problem) -> Problem:
        """What is said of a row of the whole table, said of the file that holds it and its row there."""
        if problem.row is None or not self.files or problem.file in {part.name for part in self.files}:
            return problem
        file, row = self.place(problem.row)
        return problem.model_copy(update={"file": file or problem.file, "row": row})

    def __str__(self) -> str:
        """One line for people: `semicolon, quotes ", cp1252, CRLF`."""
        parts = [f"files {len(self.files)}"] if self.files else []
        parts += [f"sheet {self.sheet}"] if self.sheet is not None else []
        if self.delimiter is not None:
            parts.append(delimiter_name(self.delimiter))
        if self.quote is not None:
            parts.append("no quoting" if self.quote == "none" else f"quotes {self.quote}")
        parts += ["no spaces behind delimiters"] if self.skip_initial_space else []
        parts += [part for part in (self.encoding, self.line_end) if part is not None]
        if self.layout is not None:
            parts.append(f"layout {self.layout}")
        if not self.has_header:
            parts.append("no header")
        return ", ".join(parts)


class PartFile(BaseModel):
    """One of several files that are a table together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows: int = Field(ge=0)
    dialect: Dialect | None = None


Dialect.model_rebuild()


def named_columns(names: Sequence[str] | None) -> Dialect | None:
    """What is told of a file without a header by the names of its columns."""
    return None if names is None else Dialect(columns=tuple(names), has_header=False)


def delimiter_name(delimiter: str) -> str:
    return _NAMES_OF_DELIMITERS.get(delimiter, repr(delimiter))


def _known_encoding(name: str) -> str | None:
    plain = name.lower().replace("-", "").replace("_", "").replace(" ", "").replace("windows", "cp")
    plain = "iso8859-" + plain.removeprefix("iso8859") if plain.startswith("iso8859") else plain
    found = {encoding.replace("-", "").replace("_", ""): encoding for encoding in ENCODINGS}
    return _ALIASES.get(plain) or found.get(plain.replace("-", ""))


#: How jobs write CSV.
WRITTEN_CSV = Dialect(delimiter=",", quote='"', encoding="utf-8", line_end="LF")
