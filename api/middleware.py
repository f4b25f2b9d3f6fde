"""Around every request: its id, the Host allow-list, its time, and an answer when nobody else has one."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import ApiError, error_response
from api.metrics import Metrics

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


#: Headers for the answer to the present request, whatever it becomes.
_ADDED: ContextVar[dict[str, str]] = ContextVar("added_headers")


def add_header(name: str, value: str) -> None:
    """Of the answer to the present request. Raises LookupError outside of one."""
    _ADDED.get()[name] = value


class RequestFrame:
    """Pure ASGI: it neither buffers streams nor hides a client's disconnect."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None, metrics: Metrics) -> None:
        self._app = app
        self._hosts = hosts
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = _Answer(send, _request_id(headers))
        _ADDED.set(answer.added)
        began_s = time.perf_counter()
        try:
            if self._hosts is not None and _host_name(headers.get("host", "")) not in self._hosts:
                refusal = ApiError(421, "This server does not answer to that host name (EIGENWERK_ALLOWED_HOSTS).")
                await error_response(refusal)(scope, receive, answer.send)
            else:
                await self._app(scope, receive, answer.send)
        except ClientDisconnect:
            log.info("the client left in the middle of %s %s", scope["method"], scope["path"])
        except Exception:
            log.exception("request %s: %s %s failed", answer.request_id, scope["method"], scope["path"])
            if answer.status is not None:
                # Part of it is sent: only a broken connection tells the client that the rest is missing.
                raise
            failure = ApiError(
                500,
                f"This is a defect of the platform. Report it with the request id {answer.request_id}.",
                code="internal_error",
            )
            await error_response(failure)(scope, receive, answer.send)
        finally:
            self._observe(scope, answer, time.perf_counter() - began_s)

    def _observe(self, scope: MutableMapping[str, Any], answer: _Answer, elapsed_s: float) -> None:
        route = getattr(scope.get("route"), "path_format", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.request_seconds.labels(method, route, str(answer.status or 499)).observe(elapsed_s)
        log.info(
            "%s %s %s %.1f ms",
            method,
            route,
            answer.status or "disconnected",
            1000 * elapsed_s,
            extra={"request_id": answer.request_id},
        )


class _Answer:
    """Adds the headers that every answer has, and remembers the status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status: int | None = None
        self.added: dict[str, str] = {}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            headers.update(self.added)
            headers["X-Content-Type-Options"] = "nosniff"
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _host_name(host: str) -> str:
    """`[::1]:80` -> `::1`, `localhost:80` -> `localhost`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
