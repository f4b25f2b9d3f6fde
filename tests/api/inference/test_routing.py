"""Which engine is asked, and what happens when it is gone: engines of a few lines, and a clock that is told."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from api.inference.routing import REST_S, Place, Routes
from tests.workers.inference.test_front import certificate_and_context

TIMEOUT = httpx.Timeout(10.0, connect=2.0)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


def answering(text: bytes, seen: Counter[bytes] | None = None) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen[text] += 1
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
        writer.close()

    return handle


async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the request and is gone."""
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


async def breaking_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Is gone in the middle of its answer."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.transport.abort()


@asynccontextmanager
async def engine(handler: Handler, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    server = await asyncio.start_server(handler, host, 0, ssl=tls)
    yield f"{'https' if tls else 'http'}://{host}:{server.sockets[0].getsockname()[1]}"
    server.close()


def routed(story: Callable[[Routes, list[float]], Awaitable[None]]) -> None:
    async def run() -> None:
        now_s = [0.0]
        routes = Routes(lambda verify: httpx.AsyncClient(verify=verify, trust_env=False), lambda: now_s[0])
        try:
            await story(routes, now_s)
        finally:
            await routes.close()

    asyncio.run(run())


async def ask(routes: Routes, *places: Place) -> bytes:
    async with routes.answer(places, "POST", "/classify", timeout=TIMEOUT, json={}) as response:
        return response.content


@pytest.mark.parametrize("gone", [dying, breaking_off])
def test_an_engine_that_is_gone_before_its_answer_is_passed_on_costs_no_request(gone: Handler) -> None:
    async def story(routes: Routes, now_s: list[float]) -> None:
        async with engine(gone) as first, engine(answering(b"second")) as second:
            places = Place(first, "k"), Place(second, "k")
            assert {await ask(routes, *places) for _ in range(20)} == {b"second"}

    routed(story)


def test_a_stream_that_has_begun_is_not_begun_again_elsewhere() -> None:
    async def story(routes: Routes, now_s: list[float]) -> None:
        async with engine(breaking_off) as first:
            asking = routes.answer([Place(first, "k")], "POST", "/generate", timeout=TIMEOUT, whole=False, json={})
            read = b""
            with pytest.raises(httpx.TransportError):
                async with asking as response:
                    async for piece in response.aiter_bytes():
                        read += piece
            assert read == b"begun"

    routed(story)


def test_a_place_that_can_not_be_reached_is_asked_last_for_a_while() -> None:
    async def story(routes: Routes, now_s: list[float]) -> None:
        seen: Counter[bytes] = Counter()
        async with engine(dying) as gone, engine(answering(b"well", seen)) as well:
            places = Place(gone, "k"), Place(well, "k")
            while not routes._resting:
                await ask(routes, *places)
            assert {routes._busy(places[0]) > routes._busy(places[1]) for _ in range(20)} == {True}
            now_s[0] += REST_S
            assert routes._busy(places[0])[0] is False
        with pytest.raises(httpx.ConnectError):
            await ask(routes, *places)

    routed(story)


def test_the_place_with_the_fewest_outstanding_requests_for_each_replica_is_asked() -> None:
    async def story(routes: Routes, now_s: list[float]) -> None:
        released, seen = asyncio.Event(), Counter[str]()

        def slow(name: str) -> Handler:
            async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                seen[name] += 1
                await released.wait()
                await answering(b"ok")(reader, writer)

            return handle

        async with engine(slow("one")) as one, engine(slow("two")) as two:
            places = Place(one, "k"), Place(two, "k", replicas=2)
            asking = [asyncio.create_task(ask(routes, *places)) for _ in range(9)]
            while seen.total() < 9:
                await asyncio.sleep(0.01)
            released.set()
            await asyncio.gather(*asking)
        assert seen == {"one": 3, "two": 6}
        assert not routes._outstanding

    routed(story)


def test_an_engine_is_believed_only_with_the_certificate_of_its_host() -> None:
    async def story(routes: Routes, now_s: list[float]) -> None:
        (mine, tls), (others, _) = certificate_and_context("127.0.0.2"), certificate_and_context("127.0.0.2")
        async with engine(answering(b"ok"), "127.0.0.2", tls) as endpoint:
            assert await ask(routes, Place(endpoint, "k", mine)) == b"ok"
            for wrong in (Place(endpoint, "k", others), Place(endpoint, "k")):
                with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                    await ask(routes, wrong)
            # The host has a certificate for its own address and no other.
            async with engine(answering(b"ok"), "127.0.0.3", tls) as elsewhere:
                with pytest.raises(httpx.ConnectError, match="IP address mismatch"):
                    await ask(routes, Place(elsewhere, "k", mine))

    routed(story)
