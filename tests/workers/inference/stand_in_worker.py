"""`python -m tests.workers.inference.stand_in_worker`: an inference worker whose engines are a few lines of its own.

Everything else is the real one: claims, leases, the front with TLS. The engines die with it, as real ones do.
"""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
import time
from pathlib import Path
from unittest.mock import patch

from scheduling.share_moves import SETTLED_S
from workers.engines.interface import EngineFailure, EngineOrder, EngineState, Installed, Load, Tokens
from workers.inference import __main__ as worker

#: Seconds that an answer takes.
ANSWER_S = 0.02


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    #: Nagle's algorithm would hold the body back.
    wbufsize = -1

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        time.sleep(ANSWER_S)
        body = json.dumps({"results": [[{"label": os.environ["EIGENWERK_HOST_NAME"], "score": 1.0}] for _ in texts]})
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-model", "ada/headlines@1")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *told: object) -> None: ...


class StandIn:
    """One engine: a server in a thread."""

    pid = os.getpid()

    def __init__(self, order: EngineOrder) -> None:
        http.server.ThreadingHTTPServer.allow_reuse_port = True
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", order.port), _Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self._ended = False

    def state(self) -> EngineState:
        return EngineState.exited if self._ended else EngineState.ready

    def failure(self) -> EngineFailure | None:
        return None

    def tokens(self) -> Tokens:
        return Tokens()

    def load(self) -> Load:
        return Load()

    def terminate(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._ended = True

    kill = terminate

    def exit_text(self) -> str:
        return "was asked to end"

    def log_tail(self) -> str:
        return ""

    def wake_fd(self) -> int | None:
        return None

    def close(self) -> None: ...


class StandIns:
    def __init__(self, logs_dir: Path) -> None: ...

    def installed(self) -> Installed:
        return Installed("1")

    def served_name(self, order: EngineOrder) -> str | None:
        return None

    def start(self, order: EngineOrder) -> StandIn:
        return StandIn(order)

    def keep_warm(self) -> None: ...

    def close(self) -> None: ...


if __name__ == "__main__":
    settled_s = float(os.environ.get("STAND_IN_SETTLED_S", SETTLED_S))
    with (
        patch.object(worker, "ENGINES", {"embedded": StandIns}),
        patch("workers.inference.share_moves.SETTLED_S", settled_s),
    ):
        sys.exit(worker.main())
