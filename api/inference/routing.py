"""Which of a deployment's engines a request goes to, and where it goes when that one is gone."""

from __future__ import annotations

import random
import re
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from storage.repositories.serving.answers import Answered

#: Seconds for which a place that could not be reached is asked last.
REST_S = 5.0
#: Hosts that were restarted have another certificate, and clients for the former are closed at some time.
_CLIENTS_MAX = 64
#: What says that an engine is gone. That one takes too long says nothing about another.
_GONE = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
#: How an engine of ours names what it serves.
_MODEL = re.compile(r"[\w.-]{1,128}/[\w.-]{1,128}@\d{1,10}", re.ASCII)


@dataclass(frozen=True)
class Place:
    """Where engines of a deployment answer."""

    endpoint: str
    #: Sent with each request; empty: it asks for none.
    key: str = field(repr=False)
    #: In PEM, what alone is trusted there; None: it is no host of ours, or it is on this machine.
    certificate: str | None = field(default=None, repr=False)
    #: Engine processes behind it.
    replicas: int = 1
    #: What is counted when it answers; None: nothing.
    answered: Answered | None = None


class Routes:
    """Sends requests to the place with the fewest outstanding ones, counted for each of its replicas."""

    def __init__(
        self,
        make_client: Callable[[ssl.SSLContext | bool], httpx.AsyncClient],
        clock: Callable[[], float] = time.monotonic,
        note: Callable[[Answered, float, bool], None] = lambda answered, duration_s, failed: None,
    ) -> None:
        """`note` is told what has answered, after how many seconds (a stream: has begun to), and whether it failed."""
        self._make_client = make_client
        self._clock = clock
        self._note = note
        self._clients: dict[str | None, httpx.AsyncClient] = {}
        self._outstanding: Counter[Place] = Counter()
        self._resting: dict[Place, float] = {}

    @asynccontextmanager
    async def answer(
        self,
        places: Sequence[Place],
        method: str,
        path: str,
        *,
        timeout: httpx.Timeout,
        whole: bool = True,
        fallback: Sequence[Place] = (),
        **content: Any,
    ) -> AsyncIterator[httpx.Response]:
        """The answer, `whole` or as far as its head; it is open within the context.

        Where an engine is gone before that, another place is asked: nobody has seen anything of its answer. Those of
        `fallback` only when no other one can be reached. Raises httpx.TransportError when there is none left.
        """
        left, last = list(places), set(fallback)
        left += fallback
        while True:
            place = min(left, key=lambda place: self._order(place, place in last))
            left.remove(place)
            began_s, failed = self._clock(), False
            took_s: float | None = None
            self._outstanding[place] += 1
            response: httpx.Response | None = None
            try:
                try:
                    response = await self._send(place, method, path, timeout, whole, content)
                    took_s, failed = self._clock() - began_s, response.is_server_error
                except httpx.PoolTimeout:
                    raise  # it was never asked
                except httpx.TransportError as error:
                    took_s, failed = self._clock() - began_s, True
                    if not isinstance(error, _GONE):
                        raise
                    self._resting[place] = self._clock() + REST_S
                    if not left:
                        raise
                    continue
                self._resting.pop(place, None)
                try:
                    yield response
                except httpx.TransportError:
                    failed = True
                    raise
                return
            finally:
                # One whose client has left was not waited for.
                if place.answered is not None and took_s is not None and method == "POST":
                    self._note(_by(place.answered, response), took_s, failed)
                self._outstanding[place] -= 1
                self._outstanding += Counter()  # only those with any stay
                if response is not None:
                    await response.aclose()

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()

    def _order(self, place: Place, is_last: bool) -> tuple[bool, bool, float, float]:
        """The least of them is asked first."""
        resting, busy, chance = self._busy(place)
        return resting, is_last, busy, chance

    def _busy(self, place: Place) -> tuple[bool, float, float]:
        resting = self._clock() < self._resting.get(place, float("-inf"))
        return resting, self._outstanding[place] / place.replicas, random.random()

    async def _send(
        self, place: Place, method: str, path: str, timeout: httpx.Timeout, whole: bool, content: dict[str, Any]
    ) -> httpx.Response:
        client = await self._client(place.certificate)
        headers = {"Authorization": f"Bearer {place.key}"} if place.key else {}
        headers |= {"Content-Type": "application/json"} if "content" in content else {}
        url = f"{place.endpoint}{path}"
        request = client.build_request(method, url, headers=headers, timeout=timeout, **content)
        response = await client.send(request, stream=True)
        if whole:
            try:
                await response.aread()
            finally:
                await response.aclose()
        return response

    async def _client(self, certificate: str | None) -> httpx.AsyncClient:
        """Each certificate has its own: what is trusted for one host is trusted for no other."""
        if certificate not in self._clients:
            if len(self._clients) >= _CLIENTS_MAX:
                busy = {None, *(place.certificate for place in self._outstanding)}
                for idle in [known for known in self._clients if known not in busy]:
                    await self._clients.pop(idle).aclose()
            self._resting = {place: until for place, until in self._resting.items() if until > self._clock()}
            self._clients[certificate] = self._make_client(True if certificate is None else _trusting(certificate))
        return self._clients[certificate]


def _by(expected: Answered, response: httpx.Response | None) -> Answered:
    """While a deployment is changed to another version, the one before answers, and its engine says so."""
    model = response.headers.get("x-model", "") if response is not None else ""
    return replace(expected, model=model) if _MODEL.fullmatch(model) else expected


def _trusting(certificate: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=certificate)
    # One that was given may be signed by an authority that is not named here.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
