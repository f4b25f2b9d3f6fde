"""One request of a batch: this API's own route is asked, as if the batch's owner had asked it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from fastapi.concurrency import run_in_threadpool
from pydantic_core import from_json
from starlette.types import ASGIApp, Message

from api.authentication import ON_BEHALF_OF
from jobspecs.rights import Principal

#: Statuses after which the same request may yet be answered: too much at once, or a part that is away.
_PASSING = frozenset({429, 503})


@dataclass(frozen=True)
class Answered:
    status: int
    request_id: str
    #: JSON.
    body: Any
    #: Seconds after which to ask again; None: this is the answer.
    again_in_s: float | None


async def ask(app: ASGIApp, user: Principal, url: str, body: dict[str, Any]) -> Answered:
    """The route's answer, limits and refusals included."""
    content = json.dumps(body).encode()
    headers = [
        (b"host", b"localhost"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
    ]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": url,
        "raw_path": url.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": None,
        "server": ("localhost", 80),
        "state": {},
        ON_BEHALF_OF: user,
    }
    sent = asyncio.Event()
    started: Message = {}
    received = bytearray()

    async def receive() -> Message:
        if not sent.is_set():
            sent.set()
            return {"type": "http.request", "body": content, "more_body": False}
        # Nobody leaves: who waits for that is cancelled.
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        else:
            received.extend(message.get("body", b""))

    await app(scope, receive, send)
    told = {name.decode().lower(): value.decode() for name, value in started.get("headers", [])}
    status = int(started["status"])
    again = told.get("retry-after", "")
    try:
        # In a thread: the vectors of many texts are megabytes.
        answer = await run_in_threadpool(from_json, bytes(received))
    except ValueError:
        answer = None
    passing = status in _PASSING
    return Answered(
        status, told.get("x-request-id", ""), answer, float(again if again.isdecimal() else 5) if passing else None
    )
