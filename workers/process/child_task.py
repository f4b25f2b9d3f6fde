"""What the supervisor tells a child, as a JSON file in the attempt's folder. It holds no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobspecs.dialect import Dialect
from jobspecs.estimate import Estimate
from jobspecs.manifest import DatasetOrigin, ModelOrigin

#: The child wrote a checkpoint and stopped because it was asked to (EX_TEMPFAIL of sysexits.h).
EXIT_STOPPED = 75
#: The child said why it failed in a FailureEvent.
EXIT_FAILED = 1


class ChildTask(BaseModel):
    """One attempt at one job, all paths absolute."""

    model_config = ConfigDict(frozen=True)

    spec: dict[str, Any]
    work_dir: Path
    #: None: the kind reads no data set.
    dataset_path: Path | None
    #: How its file is read; None leaves it to be recognised.
    dataset_dialect: Dialect | None = None
    #: The data set of the section `validation`, where it names one, and how it is read.
    held_out_path: Path | None = None
    held_out_dialect: Dialect | None = None
    #: The same of the section `test`.
    test_path: Path | None = None
    test_dialect: Dialect | None = None
    #: Role -> what each data set is: `dataset` trains, `held_out` is of the section `validation`, `test` of `test`.
    datasets: dict[str, DatasetOrigin] = Field(default_factory=dict)
    #: None: the kind starts from no model.
    model_dir: Path | None
    #: Models in other roles, and the bases of adapters: role -> folder.
    models: dict[str, Path] = Field(default_factory=dict)
    #: Role -> what the model is, the one that the job starts from included.
    origins: dict[str, ModelOrigin] = Field(default_factory=dict)
    output_dir: Path
    checkpoints_dir: Path
    resume_from: Path | None
    #: Whether the whole data set was checked before the job was queued.
    checked: bool = False
    #: What the job was expected to take.
    estimate: Estimate | None = None
    #: The GPUs that the child may see, as CUDA names them.
    gpus: tuple[str, ...]
