"""`python -m api`: serves the API until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import resource
import signal
import socket
import ssl
import sys
from types import FrameType

import uvicorn

from api.app import create_app
from api.parts import Parts
from api.settings import ApiSettings
from storage.database import SchemaMismatch
from storage.settings import DRAIN_S, LOG_FORMAT, seconds

#: Seconds of the drain in which answers that are not whole say so.
_FAREWELL_S = 1.0
#: Open files: streams of all users (`api.jobs.watchers`) with what stands behind them, answers of engines, the rest.
_FILES_MAX = 8192


def main() -> int:
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    # One line per request to the model hub and the engines is no news.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = ApiSettings.from_environment({**os.environ, **_options()})
        _try_certificate(settings)
        drain_s = seconds(os.environ, "EIGENWERK_DRAIN_S", DRAIN_S)
    except (RuntimeError, ValueError) as error:
        logging.error("error: %s", error)
        return 2
    app = create_app(settings)
    parts: Parts = app.state.parts
    try:
        parts.database.verify_schema()
    except SchemaMismatch as error:
        logging.error("error: %s", error)
        return 1
    # A stream is two files or three, and many systems allow 1,024 unless one asks for more.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _FILES_MAX)), hard))
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(drain_s),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    # uvicorn raises the signal again when it has stopped; what was asked for is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    _Server(config, parts, drain_s).run()
    return 0


def _try_certificate(settings: ApiSettings) -> None:
    """Raises ValueError for files that are none, or don't belong together."""
    if settings.tls_cert is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:
        raise ValueError(
            f"{settings.tls_cert} and {settings.tls_key} are no certificate with its key: {error}"
        ) from error


def _options() -> dict[str, str]:
    """What the command line says, under the names of the variables that it goes before."""
    parser = argparse.ArgumentParser(prog="python -m api", description="Serve the API.")
    parser.add_argument("--tls-cert", dest="EIGENWERK_TLS_CERT", help="a certificate in PEM: serve https")
    parser.add_argument("--tls-key", dest="EIGENWERK_TLS_KEY", help="its key, in PEM, without a password")
    return {name: value for name, value in vars(parser.parse_args()).items() if value is not None}


class _Server(uvicorn.Server):
    """Tells the event streams to finish, and late answers to say that they don't: a stream that is cut says nothing."""

    def __init__(self, config: uvicorn.Config, parts: Parts, drain_s: float) -> None:
        super().__init__(config)
        self._parts = parts
        self._answers_s = max(drain_s - _FAREWELL_S, drain_s / 2)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._parts.stopping.set()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(self._answers_s, self._parts.open_answers.end)
        await super().shutdown(sockets)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
