"""Runs `finetune-llm` as the worker does, in one process or in several CPU processes that train together."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobspecs.events import CheckpointEvent, ChildEvent, FailureEvent, LogEvent
from jobspecs.manifest import Manifest, read_manifest
from tests.workers.training.llm.attempts import BASE, llm_document
from workers.attempt.child_output import OutputReader
from workers.process.child_task import ChildTask
from workers.process.zygote_client import ChildProcess, ZygoteClient

#: Seconds until a run that should have ended is given up.
_PATIENCE_S = 100.0


class RankedRun:
    """One attempt in a child of the zygote, with folders of its own."""

    def __init__(self, zygote: ZygoteClient, root: Path, model: Path, data: Path) -> None:
        self._zygote, self.root, self._model, self._data = zygote, root, model, data
        self.events: list[ChildEvent] = []
        self.child: ChildProcess
        self._reader: OutputReader

    @property
    def output(self) -> Path:
        return self.root / "output"

    def start(self, mode: str, resume_from: Path | None = None, gpus: int = 2, **changes: Any) -> RankedRun:
        """`mode`: training.distributed. Without GPUs assigned the processes compute on the CPU."""
        for folder in ("output", "checkpoints"):
            (self.root / folder).mkdir(parents=True)
        changes["training"] = {**changes.get("training", {}), "distributed": mode}
        resources = {"gpus": 0 if mode == "none" else gpus}
        task = ChildTask(
            spec=llm_document(resources=resources, **changes),
            work_dir=self.root,
            dataset_path=self._data,
            model_dir=self._model,
            origins={"model": BASE},
            output_dir=self.output,
            checkpoints_dir=self.root / "checkpoints",
            resume_from=resume_from,
            gpus=(),
        )
        (self.root / "task.json").write_text(task.model_dump_json(), encoding="utf-8")
        self.child = self._zygote.spawn(self.root / "task.json")
        self._reader = OutputReader(self.child, self.events.append)
        return self

    def end(self) -> int:
        """The exit code, or minus the signal."""
        assert self.child.exited.wait(_PATIENCE_S), self.logs()
        self._reader.finish(10)
        assert self.child.status is not None
        return os.waitstatus_to_exitcode(self.child.status)

    def manifest(self) -> Manifest:
        """Of a run that ends well."""
        assert self.end() == 0, self.logs()
        return read_manifest(self.output)

    def after_step(self, step: int) -> RankedRun:
        """Waits until the checkpoint of this step is written."""
        self.until(lambda: any(isinstance(e, CheckpointEvent) and e.step >= step for e in self.events))
        return self

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline and not self.child.exited.is_set(), self.logs()
            time.sleep(0.01)

    def ranks(self) -> list[int]:
        """Process ids, that of rank 0 first."""
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text(encoding="ascii")
        return [int(pid) for pid in children.split()]

    def kill(self) -> None:
        self.child.signal(signal.SIGKILL)
        self.end()

    def logs(self) -> str:
        return "\n".join(event.message for event in self.events if isinstance(event, LogEvent))

    def failures(self) -> list[FailureEvent]:
        return [event for event in self.events if isinstance(event, FailureEvent)]

    @property
    def newest_checkpoint(self) -> Path:
        return max(path.parent for path in (self.root / "checkpoints").glob("*/manifest.json"))
