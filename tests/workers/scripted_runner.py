"""A runner whose behaviour the job's name chooses, so that tests of the machinery need no model."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from jobspecs.events import CheckpointEvent, ProgressEvent, StageEvent
from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest, describe_files, write_manifest
from workers.run.context import RunContext, RunFailed, RunStopped

STEPS = 2000


def run(context: RunContext) -> Manifest:
    behaviour = context.spec.name.split(".")[0]
    context.emit(StageEvent(stage="train"))
    if behaviour in _FAILURES:
        _FAILURES[behaviour](context)
    if behaviour == "dataset":
        return _dataset(context)
    start = _resumed_step(context)
    if behaviour == "steps":
        _steps(context, start)
    (context.output_dir / "model.safetensors").write_bytes(context.data.read_bytes())
    others = {"held_out": context.held_out_path, "test": context.test_path}
    dialects = {"held_out": context.held_out_dialect, "test": context.test_dialect}
    for role, path in others.items():
        if path is not None:
            dialect = dialects[role]
            told = [path.read_text("utf-8"), dialect and dialect.columns, context.datasets[role].model_dump()]
            (context.output_dir / f"{role}.json").write_text(json.dumps(told), encoding="utf-8")
    (context.output_dir / "started_at.json").write_text(str(start), encoding="ascii")
    manifest = Manifest(artifact="model", task="text-classification", files=describe_files(context.output_dir))
    write_manifest(context.output_dir, manifest)
    return manifest


def _steps(context: RunContext, start: int) -> None:
    for step in range(start, STEPS):
        time.sleep(0.01)
        if step % 10 == 0:
            context.emit(ProgressEvent(stage="train", step=step, steps_total=STEPS, loss=1.0))
        if step == start + 20:
            _checkpoint(context, step)
        if context.stop_requested():
            _checkpoint(context, step)
            raise RunStopped


def _checkpoint(context: RunContext, step: int) -> None:
    folder = context.checkpoints_dir / f"step-{step:08d}"
    folder.mkdir(exist_ok=True)
    (folder / "state.json").write_text(str(step), encoding="ascii")
    write_manifest(folder, Manifest(artifact="checkpoint", files=describe_files(folder)))
    context.emit(CheckpointEvent(step=step, directory=f"{context.checkpoints_dir.name}/{folder.name}"))


def _resumed_step(context: RunContext) -> int:
    if context.resume_from is None:
        return 0
    return int((context.resume_from / "state.json").read_text(encoding="ascii"))


def _dataset(context: RunContext) -> Manifest:
    """A new version of a data set, as score-pairs makes it, with figures of the model, as evaluate has them."""
    (context.output_dir / "rows.csv").write_text("text,score\none,0.5\ntwo,0.25\n", encoding="ascii")
    accuracy = {"accuracy": {"value": 0.5, "low": 0.25, "high": 0.75}}
    models = {
        role: {"reference": origin.reference, "figures": accuracy, "judged": 2, "unit": "rows"}
        for role, origin in context.origins.items()
    }
    report = {
        "origins": {role: origin.reference for role, origin in context.origins.items()},
        "evaluation": {"task": "classification", "dataset": "tester/rows@1", "models": models},
    }
    manifest = Manifest(artifact="dataset", files=describe_files(context.output_dir), report=report)
    write_manifest(context.output_dir, manifest)
    return manifest


def _write_everywhere(context: RunContext) -> None:
    sys.stdout.write("to stdout \x1b[31mred\n")
    sys.stderr.write("to stderr\n")
    sys.stdout.flush()
    os.write(1, b"not utf-8: \xff\n")
    os.write(1, b"x" * 50_000 + b"\n")
    os.write(2, b"without an end")


def _tell_environment(context: RunContext) -> None:
    for name, value in sorted(os.environ.items()):
        sys.stdout.write(f"{name}={value}\n")
    descriptors = sorted(int(path.name) for path in Path("/proc/self/fd").iterdir())
    sys.stdout.write(f"descriptors={descriptors}\n")
    sys.stdout.write(f"group={os.getpgid(0) == os.getpid()} session={os.getsid(0) == os.getpid()}\n")
    sys.stdout.flush()


def _leave_grandchild(context: RunContext) -> None:
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    sys.stdout.write(f"grandchild={pid}\n")
    sys.stdout.flush()


def _ignore_sigterm(context: RunContext) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    context.emit(StageEvent(stage="deaf"))
    time.sleep(600)


def _flood(context: RunContext) -> None:
    for number in range(100_000):
        sys.stdout.write(f"line {number}\n")
    sys.stdout.flush()


def _raise(error: BaseException) -> Callable[[RunContext], None]:
    def fail(context: RunContext) -> None:
        raise error

    return fail


def _wrapped_disk_full(context: RunContext) -> None:
    # As safetensors does: the number of the error survives in the text only.
    raise RuntimeError('Error while serializing: IoError(Os { code: 28, message: "No space left on device" })')


_FAILURES: Mapping[str, Callable[[RunContext], None]] = {
    "invalid": _raise(RunFailed(Reason.invalid_dataset, "row 3 is empty")),
    "memory": _raise(MemoryError("cannot allocate")),
    "disk": _raise(OSError(errno.ENOSPC, "No space left on device")),
    "wrapped-disk": _wrapped_disk_full,
    "defect": _raise(ValueError("a defect")),
    "segfault": lambda context: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda context: os._exit(9),
    "log": _write_everywhere,
    "environment": _tell_environment,
    "grandchild": _leave_grandchild,
    "deaf": _ignore_sigterm,
    "flood": _flood,
    "sleep": lambda context: time.sleep(600),
}

RUNNERS = {"train-classifier": run}
