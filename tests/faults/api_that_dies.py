"""The real API, killed between the commit of a job and its answer: `python -m tests.faults.api_that_dies`."""

from __future__ import annotations

import os
import signal

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.app import create_app
from api.settings import ApiSettings


class DiesAfterCommit:
    """SIGKILLs its process when the first bytes of `201 Created` for a job are about to be sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def kill_before_created(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["path"] == "/v1/jobs" and message["status"] == 201:
                os.kill(os.getpid(), signal.SIGKILL)
            await send(message)

        await self._app(scope, receive, kill_before_created)


def main() -> None:
    settings = ApiSettings.from_environment()
    uvicorn.run(DiesAfterCommit(create_app(settings)), host=settings.host, port=settings.port, log_config=None)


if __name__ == "__main__":
    main()
