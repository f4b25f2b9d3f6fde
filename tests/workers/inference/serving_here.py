"""The engine's application on a port of loopback, in a thread of the test: for tests of what asks engines."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from jobspecs.manifest import Manifest
from tests.workers.inference.models import BUILDERS
from workers.engines.embedded.app import create_app
from workers.engines.embedded.tasks.registry import LOADERS
from workers.engines.interface import EngineOrder

KEY = "engine-key"


@contextmanager
def tiny_engine(task: str, folder: Path, model: str) -> Iterator[tuple[str, Manifest]]:
    """Builds a tiny model for the task in `folder` and serves it; yields the endpoint and the model's manifest."""
    manifest = BUILDERS[task](folder)
    served = LOADERS[task](EngineOrder(model, task, folder, manifest.digest, 0, KEY))
    app = create_app(model, manifest.digest, served, KEY)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", ws="none", log_config=None, access_log=False))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", manifest
    finally:
        server.should_exit = True
        thread.join(timeout=15)
        listener.close()
        served.close()
        assert not thread.is_alive()
