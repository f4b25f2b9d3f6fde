"""Conversations as a model sees them: token ids, and which of them the loss is taken of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tokenizers import Tokenizer

from corpus.conversations.chat_template import ChatTemplate, Clock, RenderingError
from corpus.conversations.examples import Conversation, Example, Judged, Message, Preference
from corpus.conversations.model_files import load_template, load_tokenizer

#: Put into an answer to see where a template writes it. From the private use area, so no text holds it.
_MARKER = "\ue0f5"
_MASK_REMEDY = "Put {% generation %} and {% endgeneration %} around the answer in chat_template.jinja."

Span = tuple[int, int]


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

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self.template = template
        self._tokenizer = tokenizer
        special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
        self._special = "|".join(re.escape(token) for token in sorted(special, key=len, reverse=True))

    @classmethod
    def load(cls, folder: Path, *, clock: Clock = datetime.now) -> Renderer:
        """From a model folder. A training passes a `clock` that stands still, so that resuming changes no text."""
        tokenizer = load_tokenizer(folder)
        return cls(tokenizer, load_template(folder, tokenizer, clock))

    def example(self, example: Example) -> dict[str, Rendered]:
        """All sequences of an example, by what they are: conversation, text, chosen and rejected, or answer."""
        if isinstance(example, Conversation):
            return {"conversation": self.conversation(example.messages)}
        if isinstance(example, Preference):
            prompt = _unsupervised(example.prompt)
            answers = {"chosen": example.chosen, "rejected": example.rejected}
            return {name: self.conversation((*prompt, *answer)) for name, answer in answers.items()}
        if isinstance(example, Judged):
            messages = (*_unsupervised(example.messages[:-1]), example.messages[-1])
            return {"answer": self.conversation(messages)}
        return {"text": self.text(example.text)}

    def conversation(self, messages: Sequence[Message]) -> Rendered:
        """The whole conversation; the assistant's turns are supervised, with the token that ends them."""
        written = self.template.render(messages)
        if self.template.marks_answers:
            spans = _chosen_spans(written.generated, messages)
        else:
            turns = [index for index, turn in enumerate(messages) if turn.role == "assistant" and turn.supervised]
            spans = [self._span(messages, index, written.text) for index in turns]
        if any(start >= end for start, end in spans):
            raise RenderingError("the chat template leaves an answer out.", "Take a model with another template.")
        return self._rendered(written.text, spans)

    def prompt(self, messages: Sequence[Message]) -> Rendered:
        """What a server would send to have the conversation answered; nothing is supervised."""
        return self._rendered(self.template.render(messages, add_generation_prompt=True).text, [])

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
        ids = list(self._tokenizer.encode(text).ids)
        if not ids or ids[-1] != eos_id:
            ids.append(eos_id)
        return Rendered(ids, [True] * len(ids), [Piece(text + eos, True)])

    def _rendered(self, text: str, spans: Sequence[Span]) -> Rendered:
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        return Rendered(list(encoded.ids), _mask(encoded.offsets, spans), _pieces(text, spans))

    def _span(self, messages: Sequence[Message], index: int, text: str) -> Span:
        """Where `text` holds turn `index`: behind what a server would send, up to the end of the turn."""
        before = self.template.render(messages[:index], add_generation_prompt=True).text
        start = len(before) if text.startswith(before) else self._marked(messages, index, text, at_end=False)
        through = text if index == len(messages) - 1 else self.template.render(messages[: index + 1]).text
        if not text.startswith(through):
            # Templates may write an answer differently when it is the last one: without its thoughts, say.
            return start, self._turn_end(text, self._marked(messages, index, text, at_end=True))
        return start, self._without_space(text, start, len(through))

    def _marked(self, messages: Sequence[Message], index: int, text: str, *, at_end: bool) -> int:
        content = messages[index].content
        place = len(content.rstrip()) if at_end else len(content) - len(content.lstrip())
        marked = replace(messages[index], content=content[:place] + _MARKER + content[place:])
        written = self.template.render((*messages[:index], marked, *messages[index + 1 :])).text
        found = written.find(_MARKER)
        if written.replace(_MARKER, "", 1) != text:
            raise RenderingError(
                f"the chat template changes turn {index + 1}, so it can't be found again.", _MASK_REMEDY
            )
        return found

    def _turn_end(self, text: str, end: int) -> int:
        match = re.compile(rf"\s*(?:{self._special})").match(text, end) if self._special else None
        return match.end() if match else end

    def _without_space(self, text: str, start: int, end: int) -> int:
        """White space behind the token that ends the turn is never written by the model: it has stopped by then."""
        ended = re.search(rf"(?:{self._special})(\s+)\Z", text[start:end]) if self._special else None
        return end - len(ended.group(1)) if ended else end


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
