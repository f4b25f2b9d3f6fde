"""The embedded engine's HTTP: the routes of the model that it serves, /health, and TEI's /info, behind a key."""

from __future__ import annotations

import hmac

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workers.engines.embedded.batching import Overloaded
from workers.engines.embedded.dialects.requests import Refused, error_answer, failed, overloaded, refused
from workers.engines.embedded.tasks.served import ServedModel

#: After it has been busy with the same thing for so long the model counts as hung.
STUCK_S = 300.0


def create_app(model: str, digest: str, served: ServedModel, key: str) -> ASGIApp:
    """The application; every path but /health asks for `Authorization: Bearer <key>`.

    `model`: `owner/name@version`. `digest`: of its manifest.
    """

    async def health(request: Request) -> Response:
        if served.stuck_s() > STUCK_S:
            raise Refused(503, "Unhealthy", "The model does not answer.")
        return Response(status_code=200)

    async def info(request: Request) -> Response:
        return JSONResponse({"model_id": model, "model_sha": digest, "auto_truncate": False, **served.info()})

    app = Starlette(
        routes=[*served.routes(), Route("/health", health), Route("/info", info)],
        exception_handlers={Refused: refused, Overloaded: overloaded, Exception: failed},
    )
    return _Door(app, model, key)


class _Door:
    """Lets a request through only with the key; what is open is listed, everything else is closed."""

    _OPEN = frozenset({"/health"})

    def __init__(self, app: ASGIApp, model: str, key: str) -> None:
        self._app = app
        self._model = model
        self._expected = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def signed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("x-model", self._model)
            await send(message)

        given = dict(scope["headers"]).get(b"authorization", b"")
        if scope["path"] in self._OPEN or hmac.compare_digest(given, self._expected):
            await self._app(scope, receive, signed)
            return
        response = error_answer(401, "Unauthorized", "The Authorization header lacks this engine's key.")
        await response(scope, receive, send)
