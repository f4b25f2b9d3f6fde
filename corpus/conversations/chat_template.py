"""Chat templates: the small programs that come with a model and write a conversation the way it was trained on.

They are foreign code, so they run in jinja2's immutable sandbox; in the API and in engines in processes of their own
(`corpus.conversations.sandbox` and `template_process`, `corpus.checks.confined`). Everything they see is what
transformers would show them, so both write the same text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from corpus.confinement.process import Limits, Overran, TaskFailed
from corpus.conversations.examples import Message
from jobspecs.problems import InvalidInput, Problem

#: Longest text that one conversation may become, in characters.
RENDERED_CHARS_MAX = 16 * 1024 * 1024
#: What rendering may take beyond what its process has used before; by the clock for everything, on a busy machine.
RENDERING = Limits(cpu_s=2, memory_bytes=256 * 1024**2, wall_s=60)
#: Longest text or list that a template may make by multiplication.
_REPEATED_MAX = 1024 * 1024
_EXPONENT_MAX = 64
#: Put around what `{% generation %}` marks. No message holds NUL, so nothing can be taken for them.
_OPEN, _CLOSE = "\0<", "\0>"
_MARKS = re.compile(r"\0[<>]")
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")

Clock = Callable[[], datetime]


class RenderingError(InvalidInput):
    """A conversation that this template can't write, or whose answers can't be found in what it wrote."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__([Problem(field="model", message=message, remedy=remedy)])


def beyond(why: Overran | TaskFailed) -> RenderingError:
    """The model's template, or its tokenizer, has gone beyond a limit, or ended its process."""
    what = f"takes {why}" if isinstance(why, Overran) else "fails"
    return RenderingError(f"rendering with this model {what}.", "Import it with another chat template.")


@dataclass(frozen=True)
class RenderedText:
    """What a template wrote. `generated` are the (start, end) of what it marks as the assistant's, in characters."""

    text: str
    generated: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class ChatTemplate:
    """A template with the special tokens that it may name. `clock` tells it the date, if it asks."""

    source: str
    origin: Literal["model", "default"]
    tokens: Mapping[str, str] = field(default_factory=dict)
    clock: Clock = datetime.now

    @property
    def marks_answers(self) -> bool:
        """Whether it says itself, by `{% generation %}`, what the assistant writes."""
        return _GENERATION.search(self.source) is not None

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> RenderedText:
        """Raises RenderingError when the template refuses the turns, fails or writes without end."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return self.render_turns(turns, add_generation_prompt=add_generation_prompt)

    def render_turns(
        self,
        turns: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = False,
    ) -> RenderedText:
        """The same for turns with any fields beside `role` and `content`, and tools on offer."""
        if "\\u0000" in json.dumps([list(turns), list(tools)]):
            raise RenderingError("a turn holds a NUL character.", "Remove it from the data.")
        values = {**self.tokens, "messages": turns, "tools": list(tools) or None, "documents": None}
        try:
            pieces = _compiled(self.source).generate(
                **values, add_generation_prompt=add_generation_prompt, strftime_now=self._now
            )
            return _without_marks(_bounded(pieces))
        except RenderingError:
            raise
        # A template is a program: it may fail in every way that Python can.
        except Exception as error:
            why = str(error).partition("\n")[0] or type(error).__name__
            remedy = "Mend the conversation as the template wants it, or take a model with another template."
            raise RenderingError(
                f"the chat template of the model can't write this conversation: {why.rstrip('.')}.", remedy
            ) from error

    def _now(self, layout: str) -> str:
        return self.clock().strftime(layout)


def _bounded(pieces: Any) -> str:
    chars = 0
    kept = []
    for piece in pieces:
        chars += len(piece)
        if chars > RENDERED_CHARS_MAX:
            raise SecurityError(f"it writes more than {RENDERED_CHARS_MAX:,} characters")
        kept.append(piece)
    return "".join(kept)


def _without_marks(marked: str) -> RenderedText:
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    opened: int | None = None
    chars = end = 0
    for match in _MARKS.finditer(marked):
        parts.append(marked[end : match.start()])
        chars += match.start() - end
        end = match.end()
        if (match.group() == _OPEN) == (opened is not None):
            raise SecurityError("its generation blocks are not one behind the other")
        if opened is None:
            opened = chars
        else:
            spans.append((opened, chars))
            opened = None
    parts.append(marked[end:])
    return RenderedText("".join(parts), tuple(spans))


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}`, transformers' way to mark what the assistant writes."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: jinja2.runtime.Macro) -> str:
        return f"{_OPEN}{caller()}{_CLOSE}"


class _Environment(ImmutableSandboxedEnvironment):
    """Refuses the short ways to fill the memory; the long ones end at the limits of the process."""

    intercepted_binops = frozenset(("*", "**"))

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(value) for value in (left, right) if isinstance(value, str | list | tuple)]
        numbers = [abs(value) for value in (left, right) if isinstance(value, int)]
        if operator == "*" and sizes and numbers and sizes[0] * numbers[0] > _REPEATED_MAX:
            raise SecurityError(f"it repeats something to more than {_REPEATED_MAX:,} items")
        if operator == "**" and isinstance(right, int | float) and abs(right) > _EXPONENT_MAX:
            raise SecurityError(f"it raises to a power above {_EXPONENT_MAX}")
        return super().call_binop(context, operator, left, right)


@lru_cache(maxsize=16)
def _compiled(source: str) -> jinja2.Template:
    return environment().from_string(source)


def environment() -> ImmutableSandboxedEnvironment:
    """What templates are read and run in."""
    environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Unlike jinja2's own, it leaves <, > and & as they are: chats are no web pages."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
