"""`python -m api`: serves the API until SIGTERM."""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType

import uvicorn

from api.app import create_app
from api.parts import Parts
from api.settings import ApiSettings
from storage.database import SchemaMismatch

#: Seconds that open connections get at the end.
_GRACE_S = 3


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # One line per request to the model hub and the engines is no news.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = ApiSettings.from_environment()
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
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    # uvicorn raises the signal again when it has stopped; what was asked for is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    _Server(config, parts).run()
    return 0


class _Server(uvicorn.Server):
    """Tells the event streams to finish, so that they don't have to be cut off."""

    def __init__(self, config: uvicorn.Config, parts: Parts) -> None:
        super().__init__(config)
        self._parts = parts

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._parts.stopping.set()
        super().handle_exit(sig, frame)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
