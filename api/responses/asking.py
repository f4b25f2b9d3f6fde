"""A request for a response as the chat completion that answers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.errors import ApiError
from api.responses.schemas import ChosenTool, FunctionCall, Item, Message, ResponsesRequest, TextFormat, text_of

#: Field of a chat -> field of a response that it was made from.
_FIELDS = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "response_format": "text.format",
    "logprobs": "include",
    "stream_options": "stream",
}


def as_chat(request: ResponsesRequest) -> dict[str, Any]:
    """The chat completion. Its refusals name its own fields: `in_own_words`."""
    chat: dict[str, Any] = {"model": request.model, "messages": _messages(request)}
    said = {
        "max_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "logprobs": True if request.wants_logprobs else None,
        "top_logprobs": request.top_logprobs,
        "response_format": _form(request.text.format) if request.text is not None else None,
        "tools": [_tool(tool.model_dump(exclude_none=True)) for tool in request.tools or ()] or None,
        "tool_choice": _choice(request.tool_choice) if request.tools else None,
        "parallel_tool_calls": request.parallel_tool_calls if request.tools else None,
    }
    chat |= {name: value for name, value in said.items() if value is not None}
    if request.stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return chat


def in_own_words(error: ApiError) -> ApiError:
    """The refusal of a chat, of the field that the response was asked with."""
    first = (error.param or "").replace("[", ".").partition(".")[0]
    own = _FIELDS.get(first)
    message = str(error.detail).removeprefix(f"{error.param}:").strip()
    return ApiError(
        error.status_code,
        f"{own}: {message}" if own is not None else str(error.detail),
        code=error.code,
        param=own or error.param,
        problems=error.problems,
        headers=error.headers,
    )


def _messages(request: ResponsesRequest) -> list[dict[str, Any]]:
    first = [{"role": "system", "content": request.instructions}] if request.instructions else []
    if isinstance(request.input, str):
        return [*first, {"role": "user", "content": request.input}]
    return [*first, *_conversation(request.input)]


def _conversation(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Calls belong to the message of the assistant before them."""
    found: list[dict[str, Any]] = []
    for item in items:
        if isinstance(item, Message):
            found.append({"role": item.role, "content": item.text})
        elif isinstance(item, FunctionCall):
            if not found or found[-1]["role"] != "assistant":
                found.append({"role": "assistant", "content": None})
            function = {"name": item.name, "arguments": item.arguments}
            found[-1].setdefault("tool_calls", []).append(
                {"id": item.call_id, "type": "function", "function": function}
            )
        else:
            found.append({"role": "tool", "tool_call_id": item.call_id, "content": text_of(item.output)})
    return found


def _form(wanted: TextFormat | None) -> dict[str, Any] | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "json_object"}
    if wanted.schema_ is None:
        raise ApiError(422, "text.format.schema: json_schema needs a schema. Send one.", param="text.format.schema")
    named = {"name": wanted.name or "answer", "schema": wanted.schema_, "strict": wanted.strict}
    return {"type": "json_schema", "json_schema": {name: value for name, value in named.items() if value is not None}}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


def _choice(choice: str | ChosenTool | None) -> str | dict[str, Any] | None:
    if isinstance(choice, ChosenTool):
        return {"type": "function", "function": {"name": choice.name}}
    return choice
