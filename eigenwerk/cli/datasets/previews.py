"""How rows and conversations look on a terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from eigenwerk.cli.console import note, say
from eigenwerk.reports.watch import printable
from eigenwerk.resources import ChatExample, ChatMessage, ChatPreview, RenderedPiece
from jobspecs.problems import Problem

ROWS_SHOWN = 10
CHATS_SHOWN = 3
#: Characters of a cell, and of a stretch of a conversation, that are shown.
_CELL_CHARS = 40
_PIECE_CHARS = 2000
#: Rows named beside the first one of a problem that repeats.
_ROWS_NAMED = 2
_NUMBER = re.compile(r"\d+")


def shortened(value: object) -> str:
    """A cell on one line."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    line = " ".join(text.split())
    return printable(line if len(line) <= _CELL_CHARS else f"{line[: _CELL_CHARS - 1]}…")


def say_chats(preview: ChatPreview) -> None:
    """The examples, what is trained in color or between « and »; then the problems on stderr."""
    say(f"format    {preview.format}, for {preview.objective}")
    unused = f"  (not read: {', '.join(preview.unused)})" if preview.unused else ""
    say(f"columns   {', '.join(preview.used)}{unused}")
    if preview.template is not None:
        own = preview.template == "model"
        say(f"template  {'the model brings its own' if own else 'the default: the model brings none'}")
    for field in preview.unread:
        note(f"not read: {field.field} of turns, in {field.rows} of the first rows (row {field.first_row})")
    for example in preview.examples:
        _say_example(example)
    if preview.problems:
        note(f"{len(preview.problems)} of the first {preview.rows_checked} rows can't be used:")
    for problem, others in _by_reason(preview.problems):
        rows = ", ".join(str(row) for row in others[:_ROWS_NAMED])
        more = f" (as {len(others)} more: row {rows}{', …' if len(others) > _ROWS_NAMED else ''})" if others else ""
        note(f"{problem}{more}")


def _by_reason(problems: Sequence[Problem]) -> list[tuple[Problem, list[int | None]]]:
    """The first problem of each reason, with the rows of the others; reasons that differ in numbers only are one."""
    found: dict[str, tuple[Problem, list[int | None]]] = {}
    for problem in problems:
        reason = _NUMBER.sub("#", f"{problem.field}: {problem.message}")
        if reason in found:
            found[reason][1].append(problem.row)
        else:
            found[reason] = (problem, [])
    return list(found.values())


def _say_example(example: ChatExample) -> None:
    judged = {True: ", wanted", False: ", unwanted", None: ""}[example.desirable]
    say()
    say(f"row {example.row}: {example.kind}{judged}")
    if example.problem is not None:
        note(f"row {example.row}: {example.problem}")
    if example.unwritten:
        note(f"row {example.row}: the model's template does not write {', '.join(example.unwritten)}")
    for sequence in example.sequences:
        say(f"--- {sequence.name}: {sequence.tokens:,} tokens, {sequence.supervised_tokens:,} of them trained")
        _say_pieces(sequence.pieces)
    if not example.sequences:
        _say_messages(example)


def _say_messages(example: ChatExample) -> None:
    _say_turns(example.messages)
    for name, messages in (("chosen", example.chosen), ("rejected", example.rejected)):
        if messages is not None:
            say(f"--- {name}")
            _say_turns(messages)
    if example.text is not None:
        _say_lines(_cut(example.text))


def _say_turns(messages: Sequence[ChatMessage]) -> None:
    for message in messages:
        role = f"{message.role} (not learnt)" if message.learnt is False else message.role
        thought = f" (thinking: {_cut(message.reasoning)})" if message.reasoning else ""
        _say_lines(f"{role}:{thought} {_cut(message.content)}")


def _say_lines(text: str) -> None:
    for line in text.split("\n"):
        say(line)


def _say_pieces(pieces: Sequence[RenderedPiece]) -> None:
    if not sys.stdout.isatty():
        _say_lines("".join(f"«{_cut(piece.text)}»" if piece.supervised else _cut(piece.text) for piece in pieces))
        return
    colored = Text()
    for piece in pieces:
        text = "\n".join(printable(line) for line in _cut(piece.text).split("\n"))
        colored.append(text, style="bold green" if piece.supervised else "dim")
    Console(highlight=False, soft_wrap=True).print(colored)


def _cut(text: str) -> str:
    if len(text) <= _PIECE_CHARS:
        return text
    return f"{text[:_PIECE_CHARS]}… ({len(text) - _PIECE_CHARS:,} more characters)"
