"""What a text table does not say of itself: encoding, line ends, delimiter, quotes, and the names of its columns.

Recognised once, when a file is pushed, and kept with the version: whoever reads it later reads it in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice

from jobspecs.dialect import Dialect, LineEnd
from jobspecs.problems import InvalidInput
from storage.tabular.content import open_content
from storage.tabular.encodings import recognised_encoding
from storage.tabular.formats import Kind, TableFormat
from storage.tabular.headers import named_columns, shortened
from storage.tabular.lines import BadLine, read_lines
from storage.tabular.quoting import hidden_quotes, other_delimiter, sample_records, spaced, with_delimiter, with_quote
from storage.tabular.sheet_rows import sheet_dialect
from storage.tabular.stored import Stored
from storage.tabular.titles import title_lines

#: The delimiter is judged by this many lines, and by this many characters at most: each delimiter splits them all.
SNIFF_LINES = 50
SNIFF_CHARS = 1024 * 1024
#: Bytes in which the first line end is looked for.
_LINE_END_BYTES = 64 * 1024
#: What has to be known of a file of each kind before its rows can be read.
_NEEDED: dict[Kind, tuple[str, ...]] = {
    "csv": ("delimiter", "quote", "encoding", "line_end", "columns"),
    "text": ("encoding", "line_end"),
    "conll": ("encoding", "line_end"),
    "sheet": ("sheet", "columns"),
}
_SEPARATOR_LINE = re.compile(r'"?sep=([^\r\n"])"?\r?\n?', re.IGNORECASE)
_QUOTED = re.compile('"[^"]*"')
_LINE_END = re.compile(r"\r\n|\n|\r")
_LINE_ENDS: dict[str, LineEnd] = {"\n": "LF", "\r\n": "CRLF", "\r": "CR"}


def recognised(path: Stored, fmt: TableFormat, file: str, max_bytes: int) -> tuple[TableFormat, list[str]]:
    """The format with a whole dialect, and notices of what was taken for granted. Other formats are as they were.

    Raises InvalidInput for a table that can be read in two ways. What is damaged or has no header is left to whoever
    reads the rows: only there the row is known.
    """
    told = fmt.dialect
    needed = _NEEDED.get(fmt.kind, ())
    if all(getattr(told, name) is not None for name in needed):
        return fmt, []
    if fmt.kind == "sheet":
        notices: list[str] = []
        return replace(fmt, dialect=sheet_dialect(path, file, told, max_bytes, notices)), notices
    recognition = _Recognition(path, fmt, file, max_bytes, told)
    recognition.run()
    return replace(fmt, dialect=recognition.dialect), recognition.notices


@dataclass
class _Recognition:
    path: Stored
    fmt: TableFormat
    file: str
    max_bytes: int
    #: What is told, and more of it with each step.
    dialect: Dialect
    notices: list[str] = field(default_factory=list)

    def run(self) -> None:
        if self.dialect.encoding is None:
            self._learn(encoding=self._encoding())
        if self.dialect.line_end is None:
            self._learn(line_end=self._line_end())
        if self.fmt.kind != "csv":
            return
        if not self.dialect.skip_lines:
            self._skip()
        sample, cut = self._without_titles()
        if self.dialect.quote != "none" and spaced(sample, self.dialect, cut):
            self.notices.append("Spaces behind delimiters are left out, for quotes follow them.")
            self._learn(skip_initial_space=True)
        if self.dialect.delimiter is None or self.dialect.quote is None:
            self.dialect = with_delimiter(sample, self.dialect, cut)
        if self.dialect.quote is None:
            self.dialect = with_quote(self._lines, self.dialect, self.file, self.notices)
        self.notices += hidden_quotes(sample, self.dialect, cut)
        if self.dialect.columns is None:
            header, *rows = sample_records(sample, self.dialect, cut) or [[]]
            self._learn(columns=named_columns(header, rows, self.notices))
        if len(self.dialect.columns or ()) == 1:
            self.notices += other_delimiter(sample)

    def _without_titles(self) -> tuple[list[str], bool]:
        """As `_sample`, from the names of the columns on."""
        sample, cut = self._sample()
        titles = title_lines(sample, self.dialect, cut) if self.dialect.columns is None else 0
        if not titles:
            return sample, cut
        shown = ", ".join(repr(shortened(line.strip())) for line in sample[:titles] if line.strip())
        self.notices.append(f"Lines before the names of the columns are left out: {shown}.")
        self._learn(skip_lines=self.dialect.skip_lines + titles)
        return self._sample()

    def _learn(self, **found: object) -> None:
        self.dialect = self.dialect.model_copy(update=found)

    def _encoding(self) -> str:
        found = "utf-8"
        with suppress(InvalidInput):
            found = recognised_encoding(
                self.path, self.file, compression=self.fmt.compression, max_bytes=self.max_bytes
            )
        if found == "cp1252":
            self.notices.append(
                "The file is not UTF-8 and is read as cp1252. If its letters look wrong, name another: --encoding."
            )
        return found

    def _line_end(self) -> LineEnd:
        """That of the first line. CR only where it is the rule: it may stand within a field."""
        data = b""
        with suppress(InvalidInput):
            compression, max_bytes = self.fmt.compression, self.max_bytes
            with open_content(self.path, self.file, compression=compression, max_bytes=max_bytes) as content:
                data = content.read(_LINE_END_BYTES)
        text = data.decode(self.dialect.encoding or "utf-8", "ignore")
        first = _LINE_END.search(_QUOTED.sub("", text)) or _LINE_END.search(text)
        found = _LINE_ENDS[first[0]] if first else "LF"
        return "LF" if found == "CR" and text.count("\n") > text.count("\r") else found

    def _lines(self) -> Iterator[str]:
        """The lines behind those that are left out, up to the first bad one: whoever reads the rows tells its row."""
        lines = read_lines(
            self.path,
            self.file,
            compression=self.fmt.compression,
            max_bytes=self.max_bytes,
            encoding=self.dialect.encoding or "utf-8",
            line_end=self.dialect.line_end or "LF",
        )
        with suppress(BadLine, InvalidInput):
            for line in islice(lines, self.dialect.skip_lines, None):
                yield line.text

    def _sample(self) -> tuple[list[str], bool]:
        """The first lines, and whether there are more."""
        sample: list[str] = []
        chars = 0
        for line in self._lines():
            if len(sample) == SNIFF_LINES or chars > SNIFF_CHARS:
                return sample, True
            sample.append(line)
            chars += len(line)
        return sample, False

    def _skip(self) -> None:
        """Leaves out blank lines at the beginning, and the line with which a file tells Excel its delimiter."""
        blank = 0
        for line in self._lines():
            separator = _SEPARATOR_LINE.fullmatch(line)
            if separator:
                self.notices.append(f"The line sep={separator[1]} tells the delimiter and is left out.")
                self._learn(delimiter=self.dialect.delimiter or separator[1])
            if separator or line.strip():
                self._learn(skip_lines=blank + bool(separator))
                break
            blank += 1
        if self.dialect.skip_lines and blank:
            self.notices.append(f"Blank lines before the first one are left out: {blank}.")
