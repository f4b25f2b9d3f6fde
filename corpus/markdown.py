"""Cards in Markdown: headings with paragraphs and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """A table of a card. Cells can hold anything; what would break the table is escaped."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]

    def lines(self) -> list[str]:
        """Markdown, one line per row."""
        header, *rows = [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in (self.headers, *self.rows)]
        return [header, "|" + "---|" * len(self.headers), *rows]


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs and tables, in their order."""

    title: str
    parts: Sequence[str | Table] = field(default_factory=tuple)


def card(title: str, description: str, sections: Sequence[Section]) -> str:
    """Markdown. Give it inputs and results only, never when or where it was trained: equal runs have equal cards."""
    lines = [f"# {title}", "", *([description, ""] if description else [])]
    for section in sections:
        lines += [f"## {section.title}", ""]
        for part in section.parts:
            lines += [*(part.lines() if isinstance(part, Table) else part.split("\n")), ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
