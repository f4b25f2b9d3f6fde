"""A chat's answer as a response: the object itself, and its items."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from api.responses.schemas import ResponsesRequest

#: Why a response is incomplete, by the chat's `finish_reason`; any other one is a whole answer.
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Written:
    """The response to one request, as far as it is known."""

    def __init__(self, request: ResponsesRequest) -> None:
        self._head = _head(request)

    def document(
        self,
        status: str,
        output: Sequence[Mapping[str, Any]] = (),
        *,
        finish: str | None = None,
        usage: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> dict[str, Any]:
        """`finish`: the chat's finish_reason; it makes a completed response an incomplete one where it says so."""
        reason = _INCOMPLETE.get(finish or "")
        return {
            **self._head,
            "status": "incomplete" if reason and status == "completed" else status,
            "incomplete_details": {"reason": reason} if reason else None,
            "error": {"code": "server_error", "message": error} if error is not None else None,
            "output": list(output),
            "usage": _usage(usage) if usage is not None else None,
        }


def message(item_id: str, status: str, content: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"type": "message", "id": item_id, "status": status, "role": "assistant", "content": list(content)}


def text_part(text: str, logprobs: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


def function_call(item_id: str, call_id: str, name: str, arguments: str, status: str) -> dict[str, Any]:
    said = {"call_id": call_id, "name": name, "arguments": arguments, "status": status}
    return {"type": "function_call", "id": item_id, **said}


def output_of(choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The items that a chat's choice comes to. Raises KeyError or TypeError when it is none."""
    said, status = choice["message"], "incomplete" if choice.get("finish_reason") in _INCOMPLETE else "completed"
    calls = said.get("tool_calls") or ()
    logprobs = (choice.get("logprobs") or {}).get("content") or ()
    found = [
        function_call(new_id("fc"), call["id"], call["function"]["name"], call["function"]["arguments"], status)
        for call in calls
    ]
    if said.get("content") or not calls:
        found.insert(0, message(new_id("msg"), status, [text_part(said.get("content") or "", logprobs)]))
    return found


def new_id(kind: str) -> str:
    return f"{kind}_{uuid4().hex}"


def _head(request: ResponsesRequest) -> dict[str, Any]:
    wanted = request.text.model_dump(exclude_none=True, by_alias=True) if request.text is not None else {}
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "model": request.model,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_logprobs": request.top_logprobs or 0,
        "text": {"format": {"type": "text"}, **wanted},
        "tools": [tool.model_dump(exclude_none=True) for tool in request.tools or ()],
        "tool_choice": _plain(request.tool_choice) or "auto",
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "metadata": request.metadata or {},
        "user": request.user,
        "store": False,
        "background": False,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "truncation": "disabled",
    }


def _plain(choice: Any) -> Any:
    return choice if choice is None or isinstance(choice, str) else choice.model_dump()


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    read, written = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }
