"""Every engine with a tiny model, for the tests that all of them pass (`test_conformance.py`)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobspecs.manifest import Manifest, describe_files, write_manifest
from tests.language_models import build_tiny_llm
from tests.workers.engines import stand_ins
from tests.workers.local_models.gguf_file import write_tiny_gguf
from workers.engines.interface import Engine, EngineOrder, EngineProcess, EngineState
from workers.engines.registry import ENGINES
from workers.inference.replicas import ReplicaSet

KEY = "the-key-of-this-engine"
MODEL = "alice/tiny@1"
#: On a machine that trains on both cores the embedded engine once took 61 s to start.
PATIENCE_S = 240.0


def _gguf(folder: Path) -> None:
    write_tiny_gguf(folder / "tiny.gguf")


def _safetensors(folder: Path) -> None:
    build_tiny_llm(folder, "llama")


def _of_transformers_5(folder: Path) -> None:
    """For engines whose stand-ins read no weights."""
    config = {"model_type": "llama", "dtype": "float32", "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    tokenizer = {
        "tokenizer_class": "TokenizersBackend",
        "extra_special_tokens": ["<|im_start|>"],
        "backend": "tokenizers",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (folder / "model.safetensors").write_bytes(bytes(64))


#: Engine -> what writes a model for it into a folder.
CONTENDERS: Mapping[str, Callable[[Path], None]] = {
    "embedded": _safetensors,
    "llamacpp": _gguf,
    "vllm": _of_transformers_5,
    "tgi": _of_transformers_5,
}


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
def started(
    name: str, folder: Path, manifest: Manifest, base: tuple[Path, Manifest] | None = None, **more: Any
) -> Iterator[Contender]:
    """The engine's process with the model in `folder / "model"`; it may not be ready yet.

    `base`: what that changes, if it is an adapter. `more`: of the order.
    """
    programs = folder / "programs"
    if not programs.exists():
        stand_ins.install(programs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        patch.setenv("EIGENWERK_ENVIRONMENTS_DIR", str(folder / "no environments"))
        yield from _started(name, folder, manifest, base, **more)


def _started(
    name: str, folder: Path, manifest: Manifest, base: tuple[Path, Manifest] | None, **more: Any
) -> Iterator[Contender]:
    engine = ENGINES[name](folder / "logs")
    order = EngineOrder(MODEL, "text-generation", folder / "model", manifest.digest, 0, KEY, **more)
    if base is not None:
        order = replace(order, base_dir=base[0], base_digest=base[1].digest)
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
