"""A client whose server is a function, and a body that breaks off."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx

from eigenwerk import Client

Handler = Callable[[httpx.Request], httpx.Response]


class Sleeps(list[float]):
    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def client_of(handler: Handler, sleep: Sleeps | None = None) -> Client:
    return Client(
        "http://platform.test",
        "ew_secret",
        http=httpx.MockTransport(handler),
        sleep=Sleeps() if sleep is None else sleep,
    )


class Cut(httpx.SyncByteStream):
    """A body that breaks off."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts
        raise httpx.ReadError("reset")
