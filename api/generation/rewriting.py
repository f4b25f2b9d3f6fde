"""Answers of engines in another shape than the engine gives them."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from fastapi.responses import Response, StreamingResponse
from pydantic import TypeAdapter, ValidationError

from api.inference.engine import wrong_answer
from api.streaming import ClosingStream

log = logging.getLogger(__name__)

_DONE = b"[DONE]"
_DOCUMENT = TypeAdapter(dict[str, Any])

Documents = AsyncIterator[dict[str, Any]]


def rewritten(answer: Response, write: Callable[[Documents], AsyncGenerator[bytes, None]]) -> Response:
    """A streamed answer with what `write` makes of the documents in its events; any other answer as it is."""
    if not isinstance(answer, StreamingResponse):
        return answer
    pieces = answer.body_iterator

    async def stream() -> AsyncGenerator[bytes, None]:
        async with aclosing(_documents(pieces)) as documents, aclosing(write(documents)) as events:
            async for event in events:
                yield event

    headers = {name: value for name, value in answer.headers.items() if name not in ("content-type", "content-length")}
    return ClosingStream(stream(), media_type=answer.media_type, headers=headers)


def document_of(name: str, answer: Response) -> dict[str, Any]:
    """The document that an answer at once is. Raises ApiError 503 when it is none; `name`: of the deployment."""
    try:
        return _DOCUMENT.validate_json(bytes(answer.body))
    except ValidationError as error:
        raise wrong_answer(name, "answered without a document") from error


async def _documents(pieces: Any) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON of each event's data, without the end's sign. Closes `pieces`."""
    rest = b""
    async with aclosing(pieces):
        async for piece in pieces:
            *whole, rest = (rest + (piece.encode() if isinstance(piece, str) else bytes(piece))).split(b"\n\n")
            for event in whole:
                for line in event.splitlines():
                    data = line.removeprefix(b"data:").strip()
                    if line.startswith(b"data:") and data != _DONE:
                        yield _document(data)


def _document(data: bytes) -> dict[str, Any]:
    """What is no object counts as an error in the stream: the status is sent already."""
    try:
        return _DOCUMENT.validate_json(data)
    except ValidationError:
        log.exception("an engine's event is no JSON object")
        return {"error": {"message": "The engine's answer can't be read. Ask again."}}
