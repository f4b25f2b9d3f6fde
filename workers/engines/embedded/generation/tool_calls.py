"""Tools: how a model's template writes calls, found by letting it write one, and the calls in what the model answers.

Templates that write a call as a JSON object with the function's name and its arguments are read, whatever stands around
it: `<tool_call>{"name": …, "arguments": {…}}</tool_call>` (Hermes, Qwen), `{"name": …, "parameters": {…}}` (Llama 3),
`[TOOL_CALLS][{…}]` (Mistral).
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corpus.conversations.examples import ToolCall
from corpus.conversations.tool_calls import as_openai, calls_of
from workers.engines.embedded.generation.forms import Form
from workers.engines.embedded.generation.language_model import ChatTemplateFailed, LanguageModel

#: Texts that no template writes by itself. The identity has nine letters and digits: Mistral's refuse others.
_NAME, _KEY, _VALUE, _RESULT = "qzname", "qzkey", "qzvalue", "qzresult"
_CALL = ToolCall(_NAME, {_KEY: _VALUE}, "qzcall001")
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": _RESULT,
        "parameters": {"type": "object", "properties": {_KEY: {"type": "string", "description": _KEY}}},
    },
}
_ASKED = {"role": "user", "content": "a"}
_DECODER = json.JSONDecoder()
#: What may stand between calls.
_BETWEEN = re.compile(r"[\s,;\[\]]*")


class NoTools(ValueError):
    """The model's template knows no tools, or writes calls in a way that is not read."""


@dataclass(frozen=True)
class Call:
    """A function that the model wants called; `arguments`: JSON."""

    name: str
    arguments: str

    def document(self) -> dict[str, Any]:
        """As OpenAI writes it, under a new name, of nine letters and digits: Mistral's templates take no other one."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": uuid.uuid4().hex[:9], "type": "function", "function": function}


@dataclass(frozen=True)
class Notation:
    """How one template writes a call: `before`, the object, `after`; control tokens are not part of them."""

    before: str
    after: str
    name_key: str
    arguments_key: str
    #: Whether it wants the arguments of earlier calls as JSON and not as an object.
    arguments_as_text: bool

    @property
    def marker(self) -> str:
        """What announces calls; empty where only the object does."""
        return self.before.strip()

    def begins_at(self, text: str) -> int:
        """Where calls begin in the text, or may begin with what comes next; its length where they don't."""
        if not self.marker:
            return 0 if text.lstrip()[:1] in ("", "{", "[") else len(text)
        found = text.find(self.marker)
        if found >= 0:
            return found
        sizes = range(min(len(text), len(self.marker) - 1), 0, -1)
        return len(text) - next((size for size in sizes if self.marker.startswith(text[-size:])), 0)

    def calls_in(self, text: str, names: frozenset[str]) -> list[Call]:
        """The calls that the text consists of; none unless all of it is calls of functions of these names."""
        calls, rest = [], text
        while rest := self._trimmed(rest):
            try:
                found, end = _DECODER.raw_decode(rest)
            except (ValueError, RecursionError):
                return []
            name = found.get(self.name_key) if isinstance(found, dict) else None
            arguments = found.get(self.arguments_key, {}) if isinstance(found, dict) else None
            if name not in names or not isinstance(arguments, dict):
                return []
            calls.append(Call(name, json.dumps(arguments, ensure_ascii=False)))
            rest = rest[end:]
        return calls

    def _trimmed(self, text: str) -> str:
        """Without what stands before and after calls."""
        while True:
            start = text
            text = text.lstrip()
            # Before what may stand between calls: Mistral's marker begins with a bracket itself.
            for word in (self.marker, self.after.strip()):
                text = text.removeprefix(word)
            text = text[_BETWEEN.match(text).end() :]  # type: ignore[union-attr]  # it matches nothing as well
            if text == start:
                return text

    def form(self, functions: Sequence[Mapping[str, Any]]) -> Form:
        """One call of one of the functions. Raises FormRefused for parameters that can't be kept to."""
        calls = [
            {
                "type": "object",
                "properties": {
                    self.name_key: {"const": function["name"]},
                    self.arguments_key: function.get("parameters") or {"type": "object"},
                },
                "required": [self.name_key, self.arguments_key],
                "additionalProperties": False,
            }
            for function in functions
        ]
        return Form.of_schema("tools", {"anyOf": calls} if len(calls) > 1 else calls[0], self.before, self.after)


class Tools:
    """What one model's template can do with tools; found out when it is first asked."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._found: Notation | None = None

    def notation(self) -> Notation:
        """How calls are written. Not on the event loop: it renders. Raises NoTools."""
        with self._lock:
            if self._found is None:
                self._found = self._find()
            return self._found

    def _find(self) -> Notation:
        offered = self._written([_ASKED])
        if _NAME not in offered or _KEY not in offered:
            raise NoTools("the model's chat template does not tell the model of tools. Take one whose template does.")
        for as_text in (False, True):
            call = {"role": "assistant", "content": "", "tool_calls": as_openai([_CALL], as_text)}
            result = {"role": "tool", "content": _RESULT, "tool_call_id": _CALL.id, "name": _NAME}
            conversations: list[list[dict[str, Any]]] = [[_ASKED, call, result], [_ASKED, call]]
            for turns in conversations:
                written = self._written(turns)
                same = next((at for at, (a, b) in enumerate(zip(offered, written, strict=False)) if a != b), None)
                answer = written[min(len(offered), len(written)) if same is None else same :]
                if (found := self._notation_in(answer, as_text)) is not None:
                    return found
        raise NoTools("the model's chat template writes calls in a way that is not read here.")

    def _written(self, turns: list[dict[str, Any]]) -> str:
        try:
            return self._model.render_chat(turns, [_TOOL])
        except ChatTemplateFailed:
            return ""

    def _notation_in(self, answer: str, as_text: bool) -> Notation | None:
        """`answer`: what the template writes behind the place where the model would begin."""
        for start in (found.start() for found in re.finditer(r"\{", answer)):
            try:
                call, end = _DECODER.raw_decode(answer, start)
            except ValueError:
                continue
            keys = {str(value): key for key, value in call.items()} if isinstance(call, dict) else {}
            if _NAME not in keys or str(_CALL.arguments) not in keys:
                continue
            return Notation(
                before=self._plain(answer[:start]),
                after=self._plain(self._turns_end(answer[end:])),
                name_key=keys[_NAME],
                arguments_key=keys[str(_CALL.arguments)],
                arguments_as_text=as_text,
            )
        return None

    def _turns_end(self, text: str) -> str:
        """The text up to the first control token: what belongs to the call's own turn."""
        places = [text.find(token) for token in self._control if token in text]
        return text[: min(places)] if places else ""

    def _plain(self, text: str) -> str:
        for token in self._control:
            text = text.replace(token, "")
        return text

    @property
    def _control(self) -> list[str]:
        tokenizer = self._model.tokenizer
        ends = [self._model.token_text(token) for token in self._model.end_tokens]
        return [token for token in {*tokenizer.all_special_tokens, *ends} if token]


def earlier_calls(message: dict[str, Any], place: int, notation: Notation) -> dict[str, Any]:
    """The message with its calls as the template wants them. Raises BadRow naming the field."""
    calls = calls_of(message, f"messages[{place}]")
    return {**message, "tool_calls": as_openai(calls, notation.arguments_as_text)} if calls else message


class CallReader:
    """Tells calls from text while an answer grows."""

    def __init__(self, notation: Notation, names: frozenset[str]) -> None:
        self._notation, self._names = notation, names
        self._text, self._shown = "", 0

    def anew(self) -> CallReader:
        """For another answer to the same request."""
        return CallReader(self._notation, self._names)

    def show(self, text: str) -> str:
        """What of the text so far is certain to be no call, and was not shown yet."""
        self._text += text
        until = max(self._shown, self._notation.begins_at(self._text))
        shown, self._shown = self._text[self._shown : until], until
        return shown

    def finish(self) -> tuple[str, list[Call]]:
        """The rest of the text, and the calls; when these are none, all that was held back is text."""
        held = self._text[self._shown :]
        calls = self._notation.calls_in(held, self._names)
        return ("" if calls else held), calls
