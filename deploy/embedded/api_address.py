"""Where the API listens, and how this machine reaches it."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from deploy.embedded.errors import EmbeddedError
from deploy.embedded.processes import free_port, port_is_free

DEFAULT_PORT = 8480
LOOPBACK = "127.0.0.1"
#: Longer than the API gives each of the parts that it asks, so that its answer says which was silent.
_TIMEOUT_S = 8.0
#: Addresses that stand for all of this machine's, and the one by which it reaches itself.
_WILDCARDS = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - compared, not bound


@dataclass(frozen=True)
class ApiAddress:
    """`host` as the API is told to listen on."""

    host: str
    port: int
    #: The file of its certificate; None: plain HTTP.
    certificate: Path | None = None

    @property
    def url(self) -> str:
        """For clients on this machine."""
        host = _WILDCARDS.get(self.host, self.host)
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def is_ready(self) -> bool:
        """Whether the API and what it needs answer."""
        return self._answers("/readyz")

    def is_alive(self) -> bool:
        """Whether the API itself answers."""
        return self._answers("/healthz")

    def reasons(self) -> str:
        """What the API says is wrong; empty when it says nothing."""
        try:
            with self._open("/readyz"):
                return ""
        except urllib.error.HTTPError as refusal:
            return _reasons_in(refusal)
        except (OSError, HTTPException):
            return ""

    def _answers(self, path: str) -> bool:
        try:
            with self._open(path) as answer:
                return bool(answer.status == 200)
        except (OSError, HTTPException):
            return False

    def _open(self, path: str) -> HTTPResponse:
        # The proxies of the environment are for the way out, not for the way to ourselves.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if self.certificate is not None:
            handlers.append(urllib.request.HTTPSHandler(context=_trusting(self.certificate)))
        opener = urllib.request.build_opener(*handlers)
        answer: HTTPResponse = opener.open(f"{self.url}{path}", timeout=_TIMEOUT_S)
        return answer


def _trusting(certificate: Path) -> ssl.SSLContext:
    """Exactly that certificate, which names how others call this machine."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context


def _reasons_in(refusal: urllib.error.HTTPError) -> str:
    try:
        with refusal:
            return " ".join(json.load(refusal).get("reasons", []))
    except (OSError, HTTPException, ValueError):
        return ""


def choose_address(port: int | None, environment: Mapping[str, str]) -> ApiAddress:
    """The port asked for, else EIGENWERK_API_PORT, else the usual one or a free one; on EIGENWERK_API_HOST or loopback.

    Raises `EmbeddedError` when the port that is asked for can't be had, or the certificate not used.
    """
    host = environment.get("EIGENWERK_API_HOST") or LOOPBACK
    certificate = _certificate(environment)
    text = environment.get("EIGENWERK_API_PORT")
    if port is None and text:
        if not text.isdecimal() or not 1 <= int(text) <= 65535:
            raise EmbeddedError(f"EIGENWERK_API_PORT={text} is no port between 1 and 65535")
        port = int(text)
    if port is None:
        return ApiAddress(host, DEFAULT_PORT if port_is_free(DEFAULT_PORT, host) else free_port(), certificate)
    if not port_is_free(port, host):
        raise EmbeddedError(
            f"cannot listen on port {port} of {host}: it is in use, or not this machine's; choose another with --port"
        )
    return ApiAddress(host, port, certificate)


def _certificate(environment: Mapping[str, str]) -> Path | None:
    certificate, key = (environment.get(f"EIGENWERK_TLS_{name}") for name in ("CERT", "KEY"))
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise EmbeddedError(
            "a certificate and its key belong together: name --tls-cert and --tls-key (or EIGENWERK_TLS_CERT and "
            "EIGENWERK_TLS_KEY), or neither"
        )
    try:
        # Nobody is there to ask for a key's password.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=str)
    except OSError as error:
        reason = error.strerror if error.filename or not isinstance(error, ssl.SSLError) else error.reason
        raise EmbeddedError(
            f"{certificate} and {key} are no certificate with its key ({reason}); name files in PEM, the key without a "
            "password"
        ) from error
    return Path(certificate)
