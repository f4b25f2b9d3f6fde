"""An Engine of an Adapter: starts its processes, each with an attendant (`attendant.py`) beside it."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from workers.engines.child import ServingChild, remove_left_logs
from workers.engines.interface import Adapter, Call, EngineOrder, EngineState, Installed, Launch, ServedAdapter

log = logging.getLogger(__name__)

#: For every engine: its order says which GPUs it may see, and nothing is fetched or told to anybody.
SET_VARIABLES = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
}


class AttendedProcess(ServingChild):
    """One process of an engine, and its attendant; `pid` is the attendant's."""

    def __init__(self, folder: Path, adapter: Adapter, order: EngineOrder, launch: Launch) -> None:
        variables = {**SET_VARIABLES, "CUDA_VISIBLE_DEVICES": ",".join(order.gpu_ids)}
        argv = [sys.executable, "-m", "workers.engines.attendant", str(os.getpid())]
        super().__init__(folder.parent, argv, variables)
        self._folder, self._adapter, self._order, self._launch = folder, adapter, order, launch
        self._adapters = {adapter.name: adapter for adapter in order.adapters}
        self._adapters_had = len(self._adapters)
        #: What it is when it serves at all: ready or asleep; what it was asked to be, and the number of that call.
        self._now = self._asked_to_be = EngineState.ready
        self._turning: int | None = None
        self._refused = False
        # One that dies at once shows as `exited` to the caller, who counts it.
        with contextlib.suppress(BrokenPipeError):
            self.say(_told(adapter, order, launch))

    def state(self) -> EngineState:
        state = super().state()
        if self._turning is not None and (answer := self.answers.pop(self._turning, None)) is not None:
            self._turning = None
            if answer[0] == HTTPStatus.OK:
                self._now = self._asked_to_be
            else:
                self._refused = True
                log.warning("engine %d would not be %s: %d %s", self.pid, self._asked_to_be, *answer)
        return self._now if state is EngineState.ready else state

    @property
    def can_sleep(self) -> bool:
        return not self._refused and self._adapter.sleep(self._order) is not None

    def sleep(self) -> bool:
        return self._turn(EngineState.asleep, self._adapter.sleep(self._order))

    def wake(self) -> bool:
        return self._turn(EngineState.ready, self._adapter.wake())

    @property
    def awake(self) -> bool:
        return self.state() is self._asked_to_be is EngineState.ready

    def _turn(self, wanted: EngineState, call: Call | None) -> bool:
        if call is None or self._refused:
            return False
        if self._asked_to_be is not wanted and self._turning is None:
            self._asked_to_be, self._turning = wanted, self.asked(dataclasses.asdict(call))
        return True

    def can_have(self, adapters: Sequence[ServedAdapter]) -> bool:
        coming = sum(adapter.name not in self._adapters for adapter in adapters)
        return self._adapters_had + coming <= self._launch.adapters_max and super().can_have(adapters)

    def _change_of(self, adapter: ServedAdapter, *, load: bool) -> Mapping[str, Any] | None:
        call = self._adapter.load(self._launch, adapter) if load else self._adapter.unload(adapter)
        return None if call is None else dataclasses.asdict(call)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)


class AttendedEngine:
    """Starts what the adapter describes. It keeps nothing warm."""

    def __init__(self, adapter: Adapter, logs_dir: Path) -> None:
        self._adapter = adapter
        self._folder = logs_dir / adapter.kind.name
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._folder.mkdir(parents=True)
        remove_left_logs(self._folder)
        self._count = itertools.count()

    def installed(self) -> Installed | None:
        return self._adapter.installed()

    def served_name(self, order: EngineOrder) -> str | None:
        return self._adapter.served_name(order)

    def start(self, order: EngineOrder) -> AttendedProcess:
        folder = self._folder / str(next(self._count))
        folder.mkdir()
        launch = self._adapter.launch(order, folder)
        return AttendedProcess(folder, self._adapter, order, launch)

    def keep_warm(self) -> None:
        pass

    def close(self) -> None:
        pass


def _told(adapter: Adapter, order: EngineOrder, launch: Launch) -> dict[str, Any]:
    models = [(str(order.model_dir), order.digest)] if order.digest else []
    if order.base_dir is not None and order.base_digest is not None:
        models.append((str(order.base_dir), order.base_digest))
    models += [(str(adapter.folder), adapter.digest) for adapter in order.adapters]
    return {
        "argv": launch.argv,
        "environment": dict(launch.environment),
        "url": launch.url or f"http://127.0.0.1:{order.port}",
        "key": order.key,
        "health_path": launch.health_path,
        "metrics_path": launch.metrics_path,
        "measured": dataclasses.asdict(adapter.measured),
        "models": models,
        "drain_s": order.drain_s,
    }
