"""HTTP with the platform: the token, errors as EigenwerkError, and repetition of what may be repeated."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from eigenwerk.errors import UNTRUSTED, EigenwerkError, error_of, no_answer

#: Seconds between the attempts of a call that may be repeated.
RETRY_DELAYS_S = (0.2, 0.5, 1.0, 2.0)
#: Answers that say: the platform is there, one of its parts is away for the moment.
_RETRIED_STATUSES = frozenset({502, 503, 504})
#: The server's own estimate is followed up to this.
_RETRY_AFTER_MAX_S = 5.0
_CONNECT_TIMEOUT_S = 5.0
#: A data set of gigabytes is checked before the answer comes.
_READ_TIMEOUT_S = 300.0

#: Makes a body anew for each attempt: a stream can be read once only.
BodyMaker = Callable[[], Iterator[bytes]]
Sleep = Callable[[float], None]


class Transport:
    """One HTTP connection pool. Raises EigenwerkError for everything that is no success."""

    def __init__(
        self, url: str, token: str | None, *, http: httpx.BaseTransport | None = None, sleep: Sleep = time.sleep
    ) -> None:
        self.url = url.rstrip("/")
        self.sleep = sleep
        headers = {"User-Agent": "eigenwerk-client/0.1", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        settings: dict[str, Any] = {
            "timeout": httpx.Timeout(_READ_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
            "transport": http,
            # A proxy of the environment has no business with this machine's own platform: it would see the token.
            "trust_env": not is_loopback(self.url),
            # Whom to believe the environment says for this machine as well: SSL_CERT_FILE, SSL_CERT_DIR.
            "verify": httpx.create_ssl_context(),
        }
        self._http = httpx.Client(base_url=self.url, headers=headers, **settings)
        #: For the object store, whose links carry what they need: it never sees the token.
        self._elsewhere = httpx.Client(**settings)

    def close(self) -> None:
        self._elsewhere.close()
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        body: BodyMaker | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
        patient: bool = True,
    ) -> Any:
        """The answer's JSON; None for an empty one.

        `repeatable` calls are tried again when the connection breaks; by default all but POST. `patient=False`: an
        answer of 503 is an answer, not a reason to wait.
        """
        repeatable = method != "POST" if repeatable is None else repeatable
        delays_s = list(RETRY_DELAYS_S) if repeatable else []
        while True:
            try:
                response = self._http.request(
                    method,
                    path,
                    params={name: value for name, value in (params or {}).items() if value is not None},
                    json=json,
                    content=body() if body else None,
                    headers=dict(headers or {}),
                )
            except httpx.TransportError as error:
                failure, delay_s = no_answer(self.url, error), 0.0
            else:
                if response.is_success:
                    return response.json() if response.content else None
                failure = error_of(response)
                if not patient:
                    raise failure
                delay_s = min(failure.retry_after_s or 0.0, _RETRY_AFTER_MAX_S)
            if not delays_s or not is_passing(failure):
                raise failure
            self.sleep(max(delay_s, delays_s.pop(0)))

    @contextmanager
    def stream(
        self,
        path: str,
        headers: Mapping[str, str],
        *,
        read_timeout_s: float = _READ_TIMEOUT_S,
        method: str = "GET",
        json: Any = None,
    ) -> Iterator[httpx.Response]:
        """An answer whose body flows, of the platform or, by a link that it gave, of the object store.

        Broken connections raise EigenwerkError with `status` None.
        """
        timeout = httpx.Timeout(read_timeout_s, connect=_CONNECT_TIMEOUT_S)
        try:
            client = self._elsewhere if path.startswith(("http://", "https://")) else self._http
            with client.stream(method, path, json=json, headers=dict(headers), timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    raise error_of(response)
                yield response
        except httpx.TransportError as error:
            raise no_answer(self.url, error) from error


def is_loopback(url: str) -> bool:
    """Whether the address is one of this machine that nobody else can reach."""
    host = httpx.URL(url).host
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_passing(error: EigenwerkError) -> bool:
    """Whether the same call may succeed a little later."""
    return error.code != UNTRUSTED and (error.status is None or error.status in _RETRIED_STATUSES)


def given(**fields: Any) -> dict[str, Any]:
    """The fields of a body that have a value: the server's defaults are its own affair."""
    return {name: value for name, value in fields.items() if value is not None}
