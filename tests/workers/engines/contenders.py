"""Every engine with a tiny model, for the tests that all of them pass (`test_conformance.py`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from jobspecs.manifest import Manifest, describe_files, write_manifest
from tests.language_models import build_tiny_llm
from tests.workers.local_models.gguf_file import write_tiny_gguf
from workers.engines.interface import Engine, EngineOrder, EngineProcess, EngineState
from workers.engines.registry import ENGINES
from workers.inference.replicas import ReplicaSet

KEY = "the-key-of-this-engine"
MODEL = "alice/tiny@1"
PATIENCE_S = 60.0


def _gguf(folder: Path) -> None:
    write_tiny_gguf(folder / "tiny.gguf")


def _safetensors(folder: Path) -> None:
    build_tiny_llm(folder, "llama")


#: Engine -> what writes a model for it into a folder.
CONTENDERS: Mapping[str, Callable[[Path], None]] = {"embedded": _safetensors, "llamacpp": _gguf}


@dataclass
class Contender:
    """One running process, behind a port of its own."""

    name: str
    engine: Engine
    replicas: ReplicaSet

    @property
    def order(self) -> EngineOrder:
        return self.replicas.order

    @property
    def process(self) -> EngineProcess:
        (process,) = [member.process for member in self.replicas._members]
        assert process is not None
        return process

    def ask(self, path: str, body: Mapping[str, Any] | None = None, key: str = KEY) -> httpx.Response:
        named = {"model": self.engine.served_name(self.order) or MODEL}
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{self.replicas.endpoint}{path}"
        if body is None:
            return httpx.get(url, headers=headers, timeout=PATIENCE_S)
        return httpx.post(url, json={**named, **body}, headers=headers, timeout=PATIENCE_S)

    def await_state(self, state: EngineState) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while (now := self.process.state()) is not state:
            assert now is not EngineState.exited, f"{self.process.failure()} {self.process.log_tail()}"
            assert time.monotonic() < deadline, self.process.log_tail()
            time.sleep(0.02)


def write_model(name: str, folder: Path) -> Manifest:
    folder.mkdir()
    CONTENDERS[name](folder)
    manifest = Manifest(artifact="model", task="text-generation", files=describe_files(folder))
    write_manifest(folder, manifest)
    return manifest


@contextmanager
def started(name: str, folder: Path, manifest: Manifest) -> Iterator[Contender]:
    """The engine's process with the model in `folder / "model"`; it may not be ready yet."""
    engine = ENGINES[name](folder / "logs")
    order = EngineOrder(MODEL, "text-generation", folder / "model", manifest.digest, 0, KEY)
    replicas = ReplicaSet(engine, order, 1)
    replicas.tick(0.0)
    try:
        yield Contender(name, engine, replicas)
    finally:
        replicas.stop(0.0)
        deadline = time.monotonic() + PATIENCE_S
        while not replicas.stopped:
            replicas.tick(0.0 if time.monotonic() < deadline - PATIENCE_S / 2 else 1000.0)
            time.sleep(0.02)
        engine.close()
