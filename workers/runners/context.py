"""What a runner is given, and how it says that it can't go on. Imports nothing heavy: the supervisor reads it too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobspecs.events import ChildEvent
from jobspecs.lifecycle import Reason
from jobspecs.registry import JobSpec


class RunFailed(Exception):
    """The run can't go on, for a reason of the closed list. `message` tells the user what and where."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class RunStopped(Exception):
    """The run was asked to stop; it has written a checkpoint from which it can go on."""


@dataclass(frozen=True)
class RunContext:
    """One attempt at one job. All paths are local; the inputs were verified by their sha256 and are read-only."""

    spec: JobSpec
    #: The data set's file, under its pushed file name, so that the suffix tells the format.
    dataset_path: Path
    #: The base model: safetensors, config.json, tokenizer files.
    model_dir: Path
    #: Empty; the artifact goes here, `manifest.json` last.
    output_dir: Path
    #: Checkpoints go into `step-00000123` folders below it, each with `manifest.json` last.
    checkpoints_dir: Path
    #: A complete checkpoint of an earlier attempt, or None.
    resume_from: Path | None
    #: Takes an event to the supervisor. Cheap: call it as often as there is something to say.
    emit: Callable[[ChildEvent], None]
    #: True once the run should write a checkpoint and raise RunStopped. Ask at every step.
    stop_requested: Callable[[], bool]
