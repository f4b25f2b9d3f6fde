"""Tools as data sets write them: what is on offer, what the assistant calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from corpus.conversations.examples import Tool, ToolCall
from corpus.conversations.problems import BadRow
from storage.tabular.json_rows import DECODER

#: Columns that hold them: OpenAI's, and OpenAI's before 2024.
COLUMNS = ("tools", "functions")
#: What is read of a call, and what says nothing; `function` may be the call itself.
_FUNCTION = ("name", "arguments")
_CALL_FIELDS = ("id", "type", "index", "function", *_FUNCTION)
_CALL = 'Write {"name": "...", "arguments": {...}}.'
_TOOLS = 'Write [{"type": "function", "function": {"name": "...", "description": "...", "parameters": {...}}}, ...].'


def offered_tools(row: Mapping[str, Any], before: str = "") -> tuple[Tool, ...]:
    """What the row's columns offer, each as OpenAI writes it; `before` stands in front of fields. Raises BadRow."""
    for column in COLUMNS:
        value = row.get(column)
        if isinstance(value, str) and value.strip():
            value = _json(value, f"{before}{column}", _TOOLS)
        if value is None or value in ("", [], {}):
            continue
        if not isinstance(value, list):
            raise BadRow(f"{before}{column}", "it is not a list of tools.", _TOOLS)
        return tuple(_tool(tool, f"{before}{column}[{index}]") for index, tool in enumerate(value))
    return ()


def _tool(tool: Any, field: str) -> Tool:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("function") is not None else tool
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise BadRow(field, "it is not a function with a name.", _TOOLS)
    kept = {key: value for key, value in function.items() if value is not None and key != "type"}
    return {"type": "function", "function": kept}


def calls_of(turn: Mapping[str, Any], field: str) -> tuple[ToolCall, ...]:
    """The calls in an OpenAI turn: `tool_calls`, or `function_call` of before 2024. Raises BadRow."""
    several, one = turn.get("tool_calls"), turn.get("function_call")
    if several and one:
        raise BadRow(field, "the turn has both tool_calls and function_call.", "Keep tool_calls.")
    if one:
        return (_call(one, f"{field}.function_call"),)
    if not several:
        return ()
    if isinstance(several, str):
        several = _json(several, f"{field}.tool_calls", f"Write a list of calls. {_CALL}")
    if not isinstance(several, list):
        raise BadRow(f"{field}.tool_calls", "it is not a list of calls.", _CALL)
    return tuple(_call(call, f"{field}.tool_calls[{index}]") for index, call in enumerate(several))


def written_calls(text: Any, field: str) -> tuple[ToolCall, ...]:
    """The calls in the text of a ShareGPT turn of `function_call`: an object as JSON, or a list of them."""
    value = _json(text, field, _CALL) if isinstance(text, str) else text
    calls = value if isinstance(value, list) else [value]
    if not calls:
        raise BadRow(field, "there is no call.", _CALL)
    return tuple(_call(call, field if len(calls) == 1 else f"{field}[{index}]") for index, call in enumerate(calls))


def unread_of_calls(turn: Mapping[str, Any]) -> Iterator[str]:
    """Fields of an OpenAI turn's calls that nobody reads, with a value."""
    several = turn.get("tool_calls")
    for call in several if isinstance(several, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        for name, part, read in (("tool_calls", call, _CALL_FIELDS), ("tool_calls.function", function, _FUNCTION)):
            if isinstance(part, dict):
                yield from (f"{name}.{key}" for key, value in part.items() if key not in read and value is not None)


def _call(call: Any, field: str) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) and call.get("function") is not None else call
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise BadRow(field, "it is not a call of a function with a name.", _CALL)
    identity = call.get("id")
    arguments = _arguments(function.get("arguments"), f"{field}.arguments")
    return ToolCall(function["name"], arguments, identity if isinstance(identity, str) else None)


def _arguments(value: Any, field: str) -> dict[str, Any]:
    if value is None or (isinstance(value, str) and not value.strip()):
        return {}
    found = _json(value, field, _CALL) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise BadRow(field, "they are neither an object nor one written as JSON.", _CALL)
    return found


def as_openai(calls: Sequence[ToolCall], arguments_as_text: bool) -> list[dict[str, Any]]:
    """The calls as chat templates read them, the arguments as an object or as JSON."""
    return [
        {
            **({"id": call.id} if call.id else {}),
            "type": "function",
            "function": {
                "name": call.name,
                "arguments": json.dumps(call.arguments, ensure_ascii=False) if arguments_as_text else call.arguments,
            },
        }
        for call in calls
    ]


def _json(text: str, field: str, remedy: str) -> Any:
    try:
        return DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise BadRow(field, f"it is not JSON: {error}.", remedy) from error
