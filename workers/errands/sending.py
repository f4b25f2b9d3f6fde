"""One request to an address that a user named, bounded in all that the other side decides.

The name is resolved once and each address it has must be allowed; the connection goes to one of these, and TLS still
verifies the name. Redirects are answers like any other. Of an answer only the status is read, and only within the time.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import httpcore

from jobspecs.addresses import Address, AddressRules, NotAllowed
from storage.outgoing import Resolve, destination, resolve
from storage.repositories.deliveries import Outcome
from storage.settings import WEBHOOK_ADDRESSES

log = logging.getLogger(__name__)

#: Seconds from the first byte sent to the last one read.
ANSWER_S = 10.0
_USER_AGENT = "eigenwerk-webhooks/1"


class Sender:
    """Sends one body at a time; any number of threads may. `resolve` and `clock_s` are for tests."""

    def __init__(
        self,
        rules: AddressRules,
        *,
        resolve: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
        answer_s: float = ANSWER_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._resolve = resolve
        self._tls = tls or ssl.create_default_context()
        self._answer_s = answer_s
        self._clock_s = clock_s

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Raises nothing for what the other side does."""
        began_s = self._clock_s()
        status, error = self._post(url, headers, body)
        return Outcome(status, error, self._clock_s() - began_s)

    def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int | None, str | None]:
        try:
            place = destination(url, self._rules, WEBHOOK_ADDRESSES, self._resolve)
        except NotAllowed as error:
            return None, f"Not sent: {error}"
        except OSError as error:
            return None, f"The name can't be resolved: {error.strerror or error}"
        backend = _Pinned(place.addresses, self._clock_s() + self._answer_s, self._clock_s)
        told = {"User-Agent": _USER_AGENT, "Content-Type": "application/json", **headers}
        try:
            with (
                httpcore.ConnectionPool(ssl_context=self._tls, network_backend=backend) as pool,
                pool.stream("POST", url, headers=list(told.items()), content=body) as answer,
            ):
                return answer.status, _why_refused(answer.status)
        except httpcore.TimeoutException:
            return None, f"No answer within {self._answer_s:g} s."
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            return None, f"{type(error).__name__}: {str(error)[:300]}"


def _why_refused(status: int) -> str | None:
    """None: the receiver has it."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"It answered {status}: redirects are not followed. Give the webhook the address that it leads to."
    return f"It answered {status}."


class _Pinned(httpcore.NetworkBackend):
    """Connects to the addresses that were checked, whatever the name means now, and ends all by one deadline."""

    def __init__(self, addresses: Iterable[Address], deadline_s: float, clock_s: Callable[[], float]) -> None:
        self._addresses = tuple(addresses)
        self._deadline_s = deadline_s
        self._clock_s = clock_s
        self._backend = httpcore.SyncBackend()

    def left_s(self) -> float:
        """Raises ReadTimeout when nothing is left."""
        left = self._deadline_s - self._clock_s()
        if left <= 0:
            raise httpcore.ReadTimeout("the time is up")
        return left

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        for number, address in enumerate(self._addresses, 1):
            try:
                stream = self._backend.connect_tcp(str(address), port, self.left_s(), local_address, socket_options)
            except httpcore.ConnectError:
                if number == len(self._addresses):
                    raise
            else:
                return _Bounded(stream, self)
        raise httpcore.ConnectError("no address")


class _Bounded(httpcore.NetworkStream):
    """A connection whose every step ends by the deadline: a byte now and then does not prolong it."""

    def __init__(self, stream: httpcore.NetworkStream, times: _Pinned) -> None:
        self._stream = stream
        self._times = times

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._times.left_s())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._times.left_s())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Bounded(self._stream.start_tls(ssl_context, server_hostname, self._times.left_s()), self._times)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
