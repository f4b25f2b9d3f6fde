"""The key for every route of vLLM, which asks for it below /v1 only: its server loads this file as a middleware.

`/invocations` answers prompts, `/adapters` loads any folder, and the development routes run what they are told. The
file stands alone in vLLM's own environment, so it imports nothing of ours.
"""

from __future__ import annotations

import hmac
import os
from typing import Any

_OPEN = "/health"


class Door:
    """Lets a request through only with `Authorization: Bearer VLLM_API_KEY`; an ASGI application around another."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._expected = f"Bearer {os.environ['VLLM_API_KEY']}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        asks = scope["type"] in ("http", "websocket") and scope["path"] != _OPEN
        given = dict(scope["headers"]).get(b"authorization", b"") if asks else b""
        if not asks or hmac.compare_digest(given, self._expected):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"error": "Unauthorized"}'})
