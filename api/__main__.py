"""`python -m api`: serves the API until SIGTERM."""

from __future__ import annotations

import logging
import sys

import uvicorn

from api.app import create_app
from api.settings import ApiSettings

#: Seconds that open connections get at the end; event streams never end by themselves.
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
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
