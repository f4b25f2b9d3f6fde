"""An engine of a few lines: it tells what it was asked, and answers when it may."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from jobspecs.manifest import Manifest, ManifestFile
from tests.api.conftest import Api, sha256

KEY = "engine-key"
TOKENS = 7


@dataclass
class Engine:
    """Serves `model`; answers are held back while `may_answer` is cleared, and are errors while `fails`."""

    model: str
    endpoint: str = ""
    may_answer: threading.Event = field(default_factory=threading.Event)
    fails: bool = False
    asked: int = 0
    #: What it was asked last.
    body: Any = None
    running: int = 0
    running_most: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, change: int) -> None:
        with self._lock:
            self.running += change
            self.asked += max(change, 0)
            self.running_most = max(self.running_most, self.running)


@contextmanager
def standing_in(model: str = "ada/finder@1") -> Iterator[Engine]:
    engine = Engine(model)
    engine.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            engine.body = body
            engine.take(1)
            try:
                engine.may_answer.wait(30)
                status, kind, content = _answer(engine, self.path, body)
            finally:
                engine.take(-1)
            self.send_response(status)
            for name, value in {"content-type": kind, "content-length": len(content), "x-model": engine.model}.items():
                self.send_header(name, str(value))
            if self.path == "/encode":
                self.send_header("x-dimensions", "1")
                self.send_header("x-tokens", str(TOKENS))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    engine.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield engine
    finally:
        engine.may_answer.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(engine: Engine, path: str, body: Any) -> tuple[int, str, bytes]:
    if engine.fails:
        return 500, "application/json", b"{}"
    if path == "/encode":
        return 200, "application/octet-stream", struct.pack("<f", 1.0) * len(body["inputs"])
    if body.get("stream"):
        return 200, "text/event-stream", b"data: {}\n\n" * 5 + b"data: [DONE]\n\n"
    return 200, "application/json", b'{"usage": {"total_tokens": 9}}'


def deployed(
    api: Api,
    engine: Engine,
    name: str = "finder",
    task: str = "sentence-similarity",
    row: str | None = "",
    **wanted: Any,
) -> None:
    """Registers the next version of `name`, deploys it as `wanted`, and plays the worker that serves it.

    `row`: which row of deployments that is, if it is not that of `name`; None: nothing serves it yet.
    """
    weights = ManifestFile(path="model.safetensors", bytes=1000, sha256=sha256(engine.endpoint.encode()))
    with api.database.unit_of_work() as work:
        manifest = Manifest(artifact="model", task=task, files=(weights,))
        version = work.models.add_version(api.user_id(), name, manifest=manifest, prefix=f"artifacts/{weights.sha256}")
        engine.model = f"{api.user}/{name}@{version.version}"
    answer = api.client.put(f"/v1/deployments/{name}", json=wanted)
    assert answer.status_code == 202, answer.text
    if row is not None:
        ready(api, engine, row or name)


def ready(api: Api, engine: Engine, name: str, told: str | None = None) -> None:
    """Plays the worker: the engine answers from now on; `told` is what it calls what it serves."""
    with api.database.unit_of_work() as work:
        row = work.deployments.find(api.reach(), name)
        assert row is not None
        row.host, row.state, row.endpoint, row.endpoint_key = "host-1", "ready", engine.endpoint, KEY
        row.endpoint_model = told
