"""The embedded engine, seen from the inference worker: starts `workers.engines.embedded.server` processes.

The order (model, port, key) goes down the process's stdin as one JSON line; status lines come up its stdout. stdin
stays open: when it closes, the worker is gone and the engine ends. One spare process is kept that has imported
everything and waits for its order, because the imports are nearly all of the time from order to readiness.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobspecs.engines import EMBEDDED
from workers.engines.child import ServingChild, remove_left_logs
from workers.engines.interface import EngineOrder, EngineState, Installed, ServedAdapter

log = logging.getLogger(__name__)

SET_VARIABLES = {
    # Its order says which it may see.
    "CUDA_VISIBLE_DEVICES": "",
    # Keys and values grow by new tensors at each step. By default the C library keeps the old ones' places in its heap:
    # 16 answers of 2,048 tokens took SmolLM2-135M's engine to 4,117 MiB, 2,524 with places of their own. Eight of 1,000
    # took 54 s both ways.
    "MALLOC_MMAP_THRESHOLD_": str(256 << 10),
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
}


class EmbeddedProcess(ServingChild):
    """One process of the embedded engine."""

    def __init__(self, logs_dir: Path) -> None:
        argv = [sys.executable, "-m", "workers.engines.embedded.server", str(os.getpid())]
        super().__init__(logs_dir, argv, SET_VARIABLES)

    def send(self, order: EngineOrder) -> None:
        """Gives it its order. Raises BrokenPipeError when the process is gone."""
        message = {
            "model": order.model,
            "task": order.task,
            "model_dir": str(order.model_dir),
            "digest": order.digest,
            "port": order.port,
            "key": order.key,
            "threads": order.threads,
            "base_dir": str(order.base_dir) if order.base_dir else None,
            "base_digest": order.base_digest,
            "memory_bytes": order.memory_bytes,
            "context_tokens": order.context_tokens,
            "sequences": order.sequences,
            "gpu_ids": order.gpu_ids,
            "adapters": [_told(adapter) for adapter in order.adapters],
            "drain_s": order.drain_s,
        }
        self._adapters = {adapter.name: adapter for adapter in order.adapters}
        self.say(message)

    def _change_of(self, adapter: ServedAdapter, *, load: bool) -> Mapping[str, Any]:
        return {"load" if load else "unload": _told(adapter)}


def _told(adapter: ServedAdapter) -> dict[str, Any]:
    return {**vars(adapter), "folder": str(adapter.folder)}


class EmbeddedEngine:
    """Starts processes of the embedded engine and keeps one warm spare (about 400 MB of memory, no CPU)."""

    def __init__(self, logs_dir: Path) -> None:
        remove_left_logs(logs_dir)
        self._logs_dir = logs_dir
        self._spare: EmbeddedProcess | None = None

    def installed(self) -> Installed:
        return Installed(importlib.metadata.version("transformers"))

    def served_name(self, order: EngineOrder) -> str | None:
        """The model is called as requests like."""
        return EMBEDDED.told("", [adapter.name for adapter in order.adapters]) if order.adapters else None

    def start(self, order: EngineOrder) -> EmbeddedProcess:
        process, self._spare = self._spare, None
        if process is not None:
            try:
                process.send(order)
                return process
            except BrokenPipeError:
                log.warning("the spare engine %s: %s", process.exit_text(), process.log_tail())
                process.close()
        process = EmbeddedProcess(self._logs_dir)
        # A process that dies at once shows as `exited` to the caller, who counts it.
        with contextlib.suppress(BrokenPipeError):
            process.send(order)
        return process

    def keep_warm(self) -> None:
        if self._spare is not None and self._spare.state() is EngineState.exited:
            log.warning("the spare engine %s: %s", self._spare.exit_text(), self._spare.log_tail())
            self._spare.close()
            self._spare = None
        if self._spare is None:
            self._spare = EmbeddedProcess(self._logs_dir)

    def close(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None
