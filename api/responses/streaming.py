"""The chunks of a chat as the named events of a response."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from api.responses.writing import Written, function_call, message, new_id, text_part

Event = tuple[str, dict[str, Any]]


async def events_of(chunks: AsyncIterator[Mapping[str, Any]], written: Written) -> AsyncGenerator[bytes, None]:
    """One event each as server-sent events have it, numbered from 0. The last one tells how it ended."""
    number = 0
    stream = _Stream(written)
    for name, fields in stream.opening():
        yield _written(name, number, fields)
        number += 1
    async for chunk in chunks:
        for name, fields in stream.take(chunk):
            yield _written(name, number, fields)
            number += 1
    for name, fields in stream.ending():
        yield _written(name, number, fields)
        number += 1


def _written(name: str, number: int, fields: Mapping[str, Any]) -> bytes:
    document = {"type": name, "sequence_number": number, **fields}
    return f"event: {name}\ndata: {json.dumps(document, ensure_ascii=False)}\n\n".encode()


class _Stream:
    """What has come so far: whole items, and the one that grows."""

    def __init__(self, written: Written) -> None:
        self._written = written
        self._whole: list[dict[str, Any]] = []
        self._growing: _Text | _Call | None = None
        self._finish: str | None = None
        self._usage: Mapping[str, Any] | None = None
        self._error: str | None = None

    def opening(self) -> Iterator[Event]:
        for name in ("created", "in_progress"):
            yield f"response.{name}", {"response": self._written.document("in_progress")}

    def take(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        if "error" in chunk:
            error = chunk["error"]
            self._error = str(error.get("message") if isinstance(error, Mapping) else error)
            return
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            self._finish = choice.get("finish_reason") or self._finish
            delta = choice.get("delta") or {}
            logprobs = (choice.get("logprobs") or {}).get("content") or ()
            if delta.get("content") or logprobs:
                yield from self._text(delta.get("content") or "", logprobs)
            for call in delta.get("tool_calls") or ():
                yield from self._call(call)

    def ending(self) -> Iterator[Event]:
        if self._error is None and self._growing is None and not self._whole:
            yield from self._text("", ())  # an answer without a word is one all the same
        yield from self._close()
        status = "failed" if self._error is not None else "completed"
        document = self._written.document(
            status, self._whole, finish=self._finish, usage=self._usage or {}, error=self._error
        )
        yield f"response.{document['status']}", {"response": document}

    def _text(self, text: str, logprobs: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
        if not isinstance(self._growing, _Text):
            yield from self._close()
            self._growing = _Text(len(self._whole))
            yield from self._growing.opening()
        yield from self._growing.more(text, logprobs)

    def _call(self, call: Mapping[str, Any]) -> Iterator[Event]:
        number, function = int(call.get("index") or 0), call.get("function") or {}
        if not isinstance(self._growing, _Call) or self._growing.number != number:
            yield from self._close()
            named = str(call.get("id") or new_id("call")), str(function.get("name") or "")
            self._growing = _Call(len(self._whole), number, *named)
            yield from self._growing.opening()
        yield from self._growing.more(str(function.get("arguments") or ""))

    def _close(self) -> Iterator[Event]:
        if self._growing is not None:
            status = "incomplete" if self._error is not None or self._finish == "length" else "completed"
            yield from self._growing.closing(status)
            self._whole.append(self._growing.item(status))
            self._growing = None


class _Text:
    """A message that grows."""

    def __init__(self, place: int) -> None:
        self._id, self._text = new_id("msg"), ""
        self._logprobs: list[Mapping[str, Any]] = []
        self._output = {"output_index": place}
        self._at = {"item_id": self._id, "output_index": place, "content_index": 0}

    def item(self, status: str) -> dict[str, Any]:
        return message(self._id, status, [text_part(self._text, self._logprobs)])

    def opening(self) -> Iterator[Event]:
        yield "response.output_item.added", {**self._output, "item": message(self._id, "in_progress", [])}
        yield "response.content_part.added", {**self._at, "part": text_part("")}

    def more(self, text: str, logprobs: Sequence[Mapping[str, Any]]) -> Iterator[Event]:
        self._text += text
        self._logprobs += logprobs
        if text or logprobs:
            yield "response.output_text.delta", {**self._at, "delta": text, "logprobs": list(logprobs)}

    def closing(self, status: str) -> Iterator[Event]:
        yield "response.output_text.done", {**self._at, "text": self._text, "logprobs": self._logprobs}
        yield "response.content_part.done", {**self._at, "part": text_part(self._text, self._logprobs)}
        yield "response.output_item.done", {**self._output, "item": self.item(status)}


class _Call:
    """A function call that grows; `number`: of the chat's calls."""

    def __init__(self, place: int, number: int, call_id: str, name: str) -> None:
        self.number = number
        self._id, self._call_id, self._name, self._arguments = new_id("fc"), call_id, name, ""
        self._output = {"output_index": place}
        self._at = {"item_id": self._id, "output_index": place}

    def item(self, status: str) -> dict[str, Any]:
        return function_call(self._id, self._call_id, self._name, self._arguments, status)

    def opening(self) -> Iterator[Event]:
        yield "response.output_item.added", {**self._output, "item": self.item("in_progress")}

    def more(self, arguments: str) -> Iterator[Event]:
        self._arguments += arguments
        if arguments:
            yield "response.function_call_arguments.delta", {**self._at, "delta": arguments}

    def closing(self, status: str) -> Iterator[Event]:
        said = {**self._at, "name": self._name, "arguments": self._arguments}
        yield "response.function_call_arguments.done", said
        yield "response.output_item.done", {**self._output, "item": self.item(status)}
