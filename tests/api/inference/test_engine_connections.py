"""How many answers of engines the API waits for at once, and what is said beyond."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import httpx
import pytest

from api import parts as api_parts
from api.errors import ApiError
from api.inference import engine as engine_asking
from api.inference.engine import Deployed, ask
from api.inference.routing import Place
from api.parts import Parts
from api.settings import ApiSettings
from storage.repositories.serving.answers import Answered

#: What one language model takes on at once, answers and waiting requests, and some more.
REQUESTS = 150


def test_one_models_long_answers_do_not_hold_up_the_requests_to_others(api_settings: ApiSettings) -> None:
    async def run() -> None:
        parts, all_there = Parts.make(api_settings), asyncio.Event()
        held: list[asyncio.Task[None] | None] = []

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            held.append(asyncio.current_task())
            if len(held) == REQUESTS:
                all_there.set()
            await reader.read()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(hold, "127.0.0.1", 0, backlog=REQUESTS)
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        engine = Deployed("stories", "ada/stories@1", 1, "text-generation", (Place(endpoint, "key"),))
        asking = [asyncio.ensure_future(ask(parts, engine, "/v1/completions", {})) for _ in range(REQUESTS)]
        try:
            await asyncio.wait_for(all_there.wait(), 15)
        finally:
            for request in asking:
                request.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            server.close()
            await parts.close()
            await asyncio.gather(*filter(None, held), return_exceptions=True)

    asyncio.run(run())


def test_what_finds_no_free_connection_is_told_so_and_counts_against_no_deployment(
    api_settings: ApiSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_parts, "_ANSWERS_MAX", 1)
    monkeypatch.setattr(engine_asking, "_ANSWER_TIMEOUT", httpx.Timeout(60, pool=0.1))

    async def run() -> None:
        parts, asked = Parts.make(api_settings), asyncio.Event()

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await reader.read()
            writer.close()

        server = await asyncio.start_server(hold, "127.0.0.1", 0)
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        place = Place(endpoint, "key", answered=Answered(uuid4(), "stories", "ada/stories@1"))
        engine = Deployed("stories", "ada/stories@1", 1, "text-generation", (place,))
        first = asyncio.ensure_future(ask(parts, engine, "/v1/completions", {}))
        try:
            await asyncio.wait_for(asked.wait(), 15)
            with pytest.raises(ApiError, match="as many answers as it can") as refused:
                await ask(parts, engine, "/v1/completions", {})
            assert (refused.value.status_code, refused.value.code) == (503, "too_many_answers")
            assert not parts.answer_meter._totals
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            server.close()
            await parts.close()

    asyncio.run(run())
