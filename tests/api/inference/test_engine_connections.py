"""How many answers of engines the API waits for at once."""

from __future__ import annotations

import asyncio

from api.inference.engine import Deployed, ask
from api.inference.routing import Place
from api.parts import Parts
from api.settings import ApiSettings

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
