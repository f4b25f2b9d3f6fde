"""Streamable HTTP on loopback: every request brings a token of the platform, and has that token's rights and no others.

The server has no token of its own, and keeps no sessions that somebody else could go on with. A page in a browser of
this machine can reach loopback too: so Host and Origin must be this server's own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import anyio
import uvicorn
from mcp.server.mcpserver import Context
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from eigenwerk.client import Client
from eigenwerk.errors import EigenwerkError
from eigenwerk.mcp_server.answers import Clients
from eigenwerk.mcp_server.server import WRITE_SCOPE, make_server

HOST = "127.0.0.1"
PATH = "/mcp"
_SCHEME = "bearer "


def make_app(url: str, port: int, *, allow_writes: bool) -> Starlette:
    """The ASGI application in front of the platform at `url`."""
    clients = _clients_of(url)
    names = [f"{name}:{port}" for name in (HOST, "localhost", "[::1]")]
    security = TransportSecuritySettings(allowed_hosts=names, allowed_origins=[f"http://{name}" for name in names])
    apps = {
        writes: make_server(clients, writes=writes).streamable_http_app(
            streamable_http_path=PATH, stateless_http=True, json_response=False, transport_security=security
        )
        for writes in {False, allow_writes}
    }

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for app in apps.values():
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield

    return Starlette(routes=[Mount("/", app=_Door(url, apps))], lifespan=lifespan)


def serve_http(url: str, port: int, *, allow_writes: bool) -> None:
    """Serves until it is told to stop."""
    app = make_app(url, port, allow_writes=allow_writes)
    uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_level="warning", access_log=False)).run()


class _Door:
    """Lets in who brings a token that the platform knows, to the tools that this token may use."""

    def __init__(self, url: str, apps: Mapping[bool, ASGIApp]) -> None:
        self._url = url
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = _token_of(Headers(scope=scope))
        try:
            if token is None:
                raise EigenwerkError("Send a token of the platform: Authorization: Bearer ew_…", status=401)
            scopes = await anyio.to_thread.run_sync(self._scopes, token)
        except EigenwerkError as error:
            await _refusal(error)(scope, receive, send)
            return
        app = self._apps.get(WRITE_SCOPE in scopes, self._apps[False])
        await app(scope, receive, send)

    def _scopes(self, token: str) -> list[str]:
        """Asked at each request, for a token may have been revoked since the last. Raises EigenwerkError."""
        with Client(self._url, token) as client:
            return client.me().scopes


def _refusal(error: EigenwerkError) -> JSONResponse:
    status = error.status if error.status in (401, 403, 429) else 503
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": {"message": error.message}}, status_code=status, headers=headers)


def _clients_of(url: str) -> Clients:
    @contextmanager
    def sender(context: Context[Any, Any]) -> Iterator[Client]:
        """With the token of the request that is answered."""
        with Client(url, _token_of(context.headers or {})) as client:
            yield client

    return sender


def _token_of(headers: Mapping[str, str]) -> str | None:
    value = headers.get("authorization", "")
    return value[len(_SCHEME) :].strip() or None if value.lower().startswith(_SCHEME) else None
