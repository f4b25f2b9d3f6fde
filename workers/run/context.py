"""What a runner is given, and how it says that it can't go on. Imports nothing heavy: the supervisor reads it too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from jobspecs.dialect import Dialect
from jobspecs.events import ChildEvent
from jobspecs.kinds.base import SpecBase
from jobspecs.lifecycle import Reason
from jobspecs.manifest import DatasetOrigin, ModelOrigin

Spec = TypeVar("Spec", bound=SpecBase)


class RunFailed(Exception):
    """The run can't go on, for a reason of the closed list. `message` tells the user what and where."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class RunStopped(Exception):
    """The run was asked to stop; it has written a checkpoint from which it can go on."""


@dataclass(frozen=True)
class RankPlace:
    """This process among those that run one job together."""

    rank: int
    size: int
    #: `training.distributed` of the spec.
    mode: str
    #: Processes without GPUs.
    on_cpu: bool
    accelerate_config: Path
    #: A file that does not exist yet, the same for all: there they find each other.
    meeting_file: Path


@dataclass(frozen=True)
class RunContext:
    """One attempt at one job. All paths are local; the inputs were verified by their sha256 and are read-only."""

    spec: SpecBase
    #: The data set's file, under its pushed file name, so that the suffix tells the format. None: the kind reads none.
    dataset_path: Path | None
    #: The model that the job starts from: safetensors, config.json, tokenizer files. None: the kind starts from none.
    model_dir: Path | None
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
    #: How the data set's file is read; None leaves it to be recognised.
    dataset_dialect: Dialect | None = None
    #: The file of the data set of the section `validation`, where it names one, and how it is read.
    held_out_path: Path | None = None
    held_out_dialect: Dialect | None = None
    #: The same of the section `test`.
    test_path: Path | None = None
    test_dialect: Dialect | None = None
    #: Role -> what each data set is: `dataset` trains, `held_out` is of the section `validation`, `test` of `test`.
    datasets: Mapping[str, DatasetOrigin] = field(default_factory=dict)
    #: Folders of models in other roles, and of the bases of adapters: role -> folder.
    models: Mapping[str, Path] = field(default_factory=dict)
    #: Role -> what each model is in the registry or on a hub, the one that the job starts from included.
    origins: Mapping[str, ModelOrigin] = field(default_factory=dict)
    #: None: this process runs the job alone.
    place: RankPlace | None = None

    def check_stop(self, done: int = 0) -> None:
        """Raises RunStopped when the run was asked to stop; for parts without a checkpoint of their own."""
        if self.stop_requested():
            raise RunStopped

    def spec_as(self, kind: type[Spec]) -> Spec:
        """The spec as the runner's own kind. Raises RunFailed(internal_error) when it is another's."""
        if not isinstance(self.spec, kind):
            raise RunFailed(Reason.internal_error, f"this runner does not run {self.spec.kind!r}.")
        return self.spec

    @property
    def data(self) -> Path:
        """The data set's file, of a kind that always has one."""
        return _present(self.dataset_path, "data set")

    @property
    def base(self) -> Path:
        """The folder of the model that the job starts from, of a kind that always has one."""
        return _present(self.model_dir, "model")


def _present(path: Path | None, what: str) -> Path:
    if path is None:
        raise RunFailed(Reason.internal_error, f"the job was started without its {what}.")
    return path
