"""Runs the platform's own runner without the platform: the baseline of two figures.

`python -m bench.direct_job` reads the path of a task file per line from its input, runs it, and answers with one JSON
line: `first_step_at` (seconds since the epoch) and `seconds` for the whole job. The process stays warm in between.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from jobspecs.events import ChildEvent, ProgressEvent
from jobspecs.registry import parse_spec
from workers.process.child_task import ChildTask
from workers.process.zygote_client import child_environment
from workers.run.context import RunContext
from workers.runners.registry import RUNNERS


class Direct:
    """A process that runs task files one after another."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, task: Path) -> dict[str, float]:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no pipes")
        self._process.stdin.write(f"{task}\n")
        self._process.stdin.flush()
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def direct(environment: dict[str, str]) -> Iterator[Direct]:
    """A fresh, cold process with the environment that a child of the platform has."""
    command = [sys.executable, "-m", "bench.direct_job"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment(environment),
        text=True,
    ) as process:
        try:
            yield Direct(process)
        finally:
            process.kill()


def task_file(folder: Path, spec: dict[str, object], dataset: Path, model_dir: Path) -> Path:
    """A task in a new folder of its own."""
    root = folder / f"direct-{uuid4().hex}"
    for name in ("output", "checkpoints"):
        (root / name).mkdir(parents=True)
    task = ChildTask(
        spec=spec,
        work_dir=root,
        dataset_path=dataset,
        model_dir=model_dir,
        output_dir=root / "output",
        checkpoints_dir=root / "checkpoints",
        resume_from=None,
        gpus=(),
    )
    (root / "task.json").write_text(task.model_dump_json(), encoding="utf-8")
    return root / "task.json"


def run(path: Path) -> dict[str, float]:
    """Runs one task in this process."""
    task = ChildTask.model_validate_json(path.read_bytes())
    first_steps: list[float] = []

    def emit(event: ChildEvent) -> None:
        if isinstance(event, ProgressEvent) and event.stage == "train" and not first_steps:
            first_steps.append(time.time())

    spec = parse_spec(task.spec)
    began = time.monotonic()
    RUNNERS[spec.kind](
        RunContext(
            spec=spec,
            dataset_path=task.dataset_path,
            model_dir=task.model_dir,
            output_dir=task.output_dir,
            checkpoints_dir=task.checkpoints_dir,
            resume_from=None,
            emit=emit,
            stop_requested=lambda: False,
        )
    )
    return {"first_step_at": first_steps[0], "seconds": time.monotonic() - began}


def main() -> None:
    for line in sys.stdin:
        answer = run(Path(line.strip()))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
