"""Where a rendered conversation holds an answer, for templates that don't say so."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from corpus.conversations.chat_template import RenderingError
from corpus.conversations.examples import Message

#: Put into an answer to see where a template writes it. From the private use area, so no text holds it.
_MARKER = "\ue0f5"
_MASK_REMEDY = "Put {% generation %} and {% endgeneration %} around the answer in chat_template.jinja."

Span = tuple[int, int]


@dataclass(frozen=True)
class AnswerFinder:
    """`write` renders turns; its second argument says whether the prompt for an answer follows.

    `special` is a regular expression of all special tokens, empty where there are none.
    """

    write: Callable[..., str]
    special: str

    def span(self, messages: Sequence[Message], index: int, text: str) -> Span:
        """Where `text` holds turn `index`: behind what a server would send, up to the end of the turn.

        Raises RenderingError when it can't be found.
        """
        before = self.write(messages[:index], True)
        start = len(before) if text.startswith(before) else self._start(messages, index, text)
        through = text if index == len(messages) - 1 else self.write(messages[: index + 1])
        if not text.startswith(through):
            # Templates may write an answer differently when it is the last one: without its thoughts, say.
            return start, self._end(messages, index, text)
        return start, self._without_space(text, start, len(through))

    def _start(self, messages: Sequence[Message], index: int, text: str) -> int:
        turn = messages[index]
        if turn.calls and not turn.content.strip():
            # Some templates put a line end between a text and calls: only what stands before counts.
            written = self.write(_with(messages, index, replace(turn, content=_MARKER)))
            found = written.find(_MARKER)
            if found < 0 or not text.startswith(written[:found]):
                raise _lost(index)
            return found
        place = len(turn.content) - len(turn.content.lstrip())
        return self._marked(messages, index, text, _put(turn, place))

    def _end(self, messages: Sequence[Message], index: int, text: str) -> int:
        turn = messages[index]
        if not turn.calls:
            end = self._marked(messages, index, text, _put(turn, len(turn.content.rstrip())))
            ending = re.compile(rf"\s*(?:{self.special})").match(text, end) if self.special else None
            return ending.end() if ending else end
        *others, last = turn.calls
        marked = replace(turn, calls=(*others, replace(last, name=last.name + _MARKER)))
        end = self._marked(messages, index, text, marked)
        # Behind the call's name come its arguments, in which JSON or XML may stand, and then the turn's end.
        ending = re.compile(self.special).search(text, end) if self.special else None
        if ending is None:
            raise _lost(index)
        return ending.end()

    def _marked(self, messages: Sequence[Message], index: int, text: str, marked: Message) -> int:
        written = self.write(_with(messages, index, marked))
        if written.replace(_MARKER, "", 1) != text:
            raise _lost(index)
        return written.find(_MARKER)

    def _without_space(self, text: str, start: int, end: int) -> int:
        """White space behind the token that ends the turn is never written by the model: it has stopped by then."""
        ended = re.search(rf"(?:{self.special})(\s+)\Z", text[start:end]) if self.special else None
        return end - len(ended.group(1)) if ended else end


def _put(turn: Message, place: int) -> Message:
    return replace(turn, content=turn.content[:place] + _MARKER + turn.content[place:])


def _with(messages: Sequence[Message], index: int, turn: Message) -> tuple[Message, ...]:
    return (*messages[:index], turn, *messages[index + 1 :])


def _lost(index: int) -> RenderingError:
    return RenderingError(f"the chat template changes turn {index + 1}, so it can't be found again.", _MASK_REMEDY)
