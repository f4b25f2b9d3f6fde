"""Errors as answers."""

from __future__ import annotations

import asyncio

import httpx
from fastapi import FastAPI

from api.errors import add_error_handlers
from jobspecs.problems import InvalidInput, Problem


def test_an_error_that_is_its_own_cause_is_answered_and_holds_up_nobody() -> None:
    app = FastAPI()
    add_error_handlers(app)

    @app.get("/cycle")
    async def cycle() -> None:
        first, second = (InvalidInput([Problem(message=f"the {name}")]) for name in ("first", "second"))
        # Python itself refuses to make `__context__` a circle, but not `__cause__`.
        second.__cause__ = first
        raise first from second

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with asyncio.timeout(30), httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/cycle")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, "the first")
