"""What a chat template can write beside roles and texts, found by letting it write: tool calls, tools, thoughts.

Searching its source for words would be wrong both ways: templates name what they refuse, and loop over what they write.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from corpus.conversations.chat_template import ChatTemplate, RenderingError
from corpus.conversations.examples import Message, Tool, ToolCall
from corpus.conversations.tool_calls import as_openai
from corpus.conversations.turns import REASONING

#: Texts that no template writes by itself.
_NAME, _KEY, _VALUE, _RESULT, _THOUGHT = "qzname", "qzkey", "qzvalue", "qzresult", "qzthought"
_TOOL: Tool = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": _RESULT,
        "parameters": {"type": "object", "properties": {_KEY: {"type": "string", "description": _KEY}}},
    },
}
#: Nine letters and digits: templates of Mistral's refuse others.
_CALL = ToolCall(_NAME, {_KEY: _VALUE}, "qzcall001")
#: How Python, and JSON within JSON, would spell the arguments: not what a model shall learn.
_MISSPELT = (f"{{'{_KEY}'", f'\\"{_KEY}')

_REMEDY = "Take a model whose template knows tools, or leave rows with tools out."


@dataclass(frozen=True)
class TemplateAbilities:
    """Asked of one template. Each answer costs a rendering or two, once."""

    template: ChatTemplate

    @cached_property
    def arguments_as_text(self) -> bool | None:
        """Whether calls' arguments are to be given as JSON and not as an object; None: it writes no calls."""
        for as_text in (False, True):
            call = {"role": "assistant", "content": "", "tool_calls": as_openai([_CALL], as_text)}
            result = {"role": "tool", "content": _RESULT, "tool_call_id": _CALL.id, "name": _NAME}
            asked = {"role": "user", "content": "a"}
            written = self._written([asked, call, result, {"role": "assistant", "content": "b"}])
            if all(part in written for part in (_NAME, _KEY, _VALUE, _RESULT)) and not any(
                wrong in written for wrong in _MISSPELT
            ):
                return as_text
        return None

    @cached_property
    def offers_tools(self) -> bool:
        """Whether it writes the tools on offer."""
        written = self._written([{"role": "user", "content": "a"}], [_TOOL])
        return _NAME in written and _KEY in written

    @cached_property
    def reasoning_field(self) -> str | None:
        """The field in which it reads what the assistant thought; None: it writes no thoughts."""
        for field in REASONING:
            turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", field: _THOUGHT}]
            if _THOUGHT in self._written(turns):
                return field
        return None

    def turn(self, message: Message) -> dict[str, Any]:
        """The turn as this template reads it. Raises RenderingError where it calls tools and the template has none."""
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.calls:
            if self.arguments_as_text is None:
                raise RenderingError("the model's chat template writes no tool calls.", _REMEDY)
            turn["tool_calls"] = as_openai(message.calls, self.arguments_as_text)
        if message.call_id is not None:
            turn["tool_call_id"] = message.call_id
        if message.name is not None:
            turn["name"] = message.name
        if message.reasoning is not None and self.reasoning_field is not None:
            turn[self.reasoning_field] = message.reasoning
        return turn

    def check_tools(self, tools: tuple[Tool, ...]) -> None:
        """Raises RenderingError where tools are on offer and the template does not say so to the model."""
        if tools and not self.offers_tools:
            raise RenderingError("the model's chat template does not tell the model of tools.", _REMEDY)

    def _written(self, turns: list[dict[str, Any]], tools: list[Tool] | None = None) -> str:
        try:
            return self.template.render_turns(turns, tools=tools or ()).text
        except RenderingError:
            return ""
