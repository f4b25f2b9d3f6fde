"""Conversations as a model sees them: token ids, and which of them the loss is taken of."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from corpus.conversations.answers import AnswerFinder, Span
from corpus.conversations.chat_template import ChatTemplate, Clock, RenderedText, RenderingError
from corpus.conversations.control_tokens import ControlTokens
from corpus.conversations.examples import (
    Conversation,
    Example,
    Judged,
    Message,
    PlainText,
    Preference,
    Tool,
    messages_of,
    turns_of,
)
from corpus.conversations.model_files import load_template, load_tokenizer
from corpus.conversations.template_abilities import TemplateAbilities

#: Of control tokens within texts: their letters, what the tokenizer makes of them, or a refusal.
Treatment = Literal["text", "keep", "refuse"]
#: Thoughts at the beginning of a text.
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>", re.DOTALL)
_OTHER_TEMPLATE = "Take a model with another template."


@dataclass(frozen=True)
class Piece:
    """A stretch of the rendered text that is supervised as a whole or not at all."""

    text: str
    supervised: bool


@dataclass(frozen=True)
class Rendered:
    """Token ids; `mask[i]` is true when token i is a target of the loss. `pieces` joined are the rendered text."""

    ids: list[int]
    mask: list[bool]
    pieces: list[Piece]


def visible(rendered: Rendered) -> str:
    """The text for people, with what is trained on between « and »."""
    return "".join(f"«{piece.text}»" if piece.supervised else piece.text for piece in rendered.pieces)


class Renderer:
    """Renders with one model's template and tokenizer. Methods raise RenderingError."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, treatment: Treatment = "text") -> None:
        """`treatment`: of control tokens within texts, as `data.control_tokens` of a spec has it."""
        self.template = template
        self.abilities = TemplateAbilities(template)
        self._tokenizer = tokenizer
        self._control = ControlTokens(tokenizer)
        self._treatment = treatment

    @classmethod
    def load(cls, folder: Path, *, clock: Clock = datetime.now, treatment: Treatment = "text") -> Renderer:
        """From a model folder. A training passes a `clock` that stands still, so that resuming changes no text."""
        tokenizer = load_tokenizer(folder)
        return cls(tokenizer, load_template(folder, tokenizer, clock), treatment)

    def example(self, example: Example) -> dict[str, Rendered]:
        """All sequences of an example, by what they are: conversation, text, chosen and rejected, or answer."""
        if isinstance(example, Conversation):
            return {"conversation": self.conversation(example.messages, example.tools)}
        if isinstance(example, Preference):
            prompt = _unsupervised(example.prompt)
            answers = {"chosen": example.chosen, "rejected": example.rejected}
            return {name: self.conversation((*prompt, *answer), example.tools) for name, answer in answers.items()}
        if isinstance(example, Judged):
            messages = (*_unsupervised(example.messages[:-1]), example.messages[-1])
            return {"answer": self.conversation(messages, example.tools)}
        return {"text": self.text(example.text)}

    def conversation(self, messages: Sequence[Message], tools: tuple[Tool, ...] = ()) -> Rendered:
        """The whole conversation; the assistant's turns are supervised, with the token that ends them.

        Calls of tools are the assistant's; what tools answer is not.
        """
        write = self._writer(tools)
        written = write(messages)
        for number, message in enumerate(messages, start=1):
            if any(call.name not in written.text for call in message.calls):
                raise RenderingError(f"the chat template leaves a tool call of turn {number} out.", _OTHER_TEMPLATE)
        if self.template.marks_answers:
            spans = _chosen_spans(written.generated, messages)
        else:
            finder = AnswerFinder(lambda turns, prompt=False: write(turns, prompt).text, self._control.pattern)
            turns = [index for index, turn in enumerate(messages) if turn.role == "assistant" and turn.supervised]
            spans = [finder.span(messages, index, written.text) for index in turns]
        if any(start >= end for start, end in spans):
            raise RenderingError("the chat template leaves an answer out.", _OTHER_TEMPLATE)
        return self._rendered(written.text, spans, self._as_text(messages, tools, written.text))

    def prompt(self, messages: Sequence[Message], tools: tuple[Tool, ...] = ()) -> Rendered:
        """What a server would send to have the conversation answered; nothing is supervised."""
        text = self._writer(tools)(messages, True).text
        return self._rendered(text, [], self._as_text(messages, tools, text, prompt=True))

    def control_tokens(self, example: Example) -> list[str]:
        """Those that stand in the texts of an example."""
        if isinstance(example, PlainText):
            return self._control.found(example.text)
        return self._control.found([self._turns(messages_of(example)), list(example.tools)])

    def _turns(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        return [self.abilities.turn(message) for message in messages]

    def _as_text(
        self, messages: Sequence[Message], tools: tuple[Tool, ...], text: str, prompt: bool = False
    ) -> frozenset[int]:
        """Where in the rendered `text` control tokens begin that people wrote. Raises RenderingError."""
        turns = self._turns(messages)
        found = self._control.found([turns, list(tools)])
        if not found or self._treatment == "keep":
            return frozenset()
        if self._treatment == "refuse":
            raise _control_refused(found)
        marked = self.template.render_turns(
            self._control.marked(turns), tools=self._control.marked(tools), add_generation_prompt=prompt
        )
        plain, places = self._control.unmarked(marked.text)
        if plain != text:
            message = f"the chat template changes a text with the control token {found[0]}."
            raise RenderingError(message, "Remove the token from the data.")
        return places

    def unwritten(self, example: Example) -> tuple[str, ...]:
        """What an example holds and the template does not write, by the names of fields."""
        thinks = any(message.reasoning is not None for message in messages_of(example))
        found = ["reasoning"] if thinks and self.abilities.reasoning_field is None else []
        if not isinstance(example, PlainText) and any(
            self._loses_thoughts(t, example.tools) for t in turns_of(example)
        ):
            found.append("what <think> holds in a text")
        return tuple(found)

    def _loses_thoughts(self, messages: Sequence[Message], tools: tuple[Tool, ...]) -> bool:
        """Whether the template cuts thoughts out of the last text, as some do."""
        thought = _THOUGHT.match(messages[-1].content)
        return thought is not None and thought[1].strip() not in self._writer(tools)(messages).text

    def _writer(self, tools: tuple[Tool, ...]) -> Callable[..., RenderedText]:
        self.abilities.check_tools(tools)

        def write(messages: Sequence[Message], prompt: bool = False) -> RenderedText:
            return self.template.render_turns(self._turns(messages), tools=tools, add_generation_prompt=prompt)

        return write

    def special_token(self, token: int) -> str | None:
        """The special token with this id; None for tokens that stand for text."""
        found = self._tokenizer.get_added_tokens_decoder().get(token)
        return found.content if found is not None and found.special else None

    def text(self, text: str) -> Rendered:
        """A text with the special tokens that the tokenizer adds itself and the end of the sequence, all supervised."""
        eos = self.template.tokens.get("eos_token")
        eos_id = None if eos is None else self._tokenizer.token_to_id(eos)
        if eos is None or eos_id is None:
            remedy = "Add eos_token to its tokenizer_config.json."
            raise RenderingError("the model names no end-of-sequence token.", remedy)
        found = self._control.places(text) if self._treatment != "keep" else frozenset()
        if found and self._treatment == "refuse":
            raise _control_refused(self._control.found(text))
        ids, _ = self._control.encoded(text, found, add_special_tokens=True)
        if not ids or ids[-1] != eos_id:
            ids.append(eos_id)
        return Rendered(ids, [True] * len(ids), [Piece(text + eos, True)])

    def _rendered(self, text: str, spans: Sequence[Span], as_text: frozenset[int]) -> Rendered:
        ids, offsets = self._control.encoded(text, as_text)
        return Rendered(ids, _mask(offsets, spans), _pieces(text, spans))


def _control_refused(found: list[str]) -> RenderingError:
    remedy = "Remove it, or write data: {control_tokens: text}."
    return RenderingError(f"a text holds the control token {found[0]}.", remedy)


def _unsupervised(messages: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(replace(message, supervised=False) for message in messages)


def _chosen_spans(spans: Sequence[Span], messages: Sequence[Message]) -> list[Span]:
    """Those of the marked spans whose turn is supervised."""
    turns = [message for message in messages if message.role == "assistant"]
    if len(spans) == len(turns):
        return [span for span, turn in zip(spans, turns, strict=True) if turn.supervised]
    if not spans or not all(turn.supervised for turn in turns):
        message = f"the chat template marks {len(spans)} answers of {len(turns)}."
        raise RenderingError(message, "Put {% generation %} once around each answer in chat_template.jinja.")
    return list(spans)


def _mask(offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """A token is supervised when it shares a character with a span, as in transformers."""
    mask = []
    rest = list(spans)
    for start, end in offsets:
        while rest and rest[0][1] <= start:
            rest.pop(0)
        mask.append(bool(rest) and end > rest[0][0])
    return mask


def _pieces(text: str, spans: Sequence[Span]) -> list[Piece]:
    pieces = []
    at = 0
    for start, end in spans:
        pieces += [Piece(text[at:start], False), Piece(text[start:end], True)]
        at = end
    pieces.append(Piece(text[at:], False))
    return [piece for piece in pieces if piece.text]
