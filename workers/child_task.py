"""What the supervisor tells a child, as a JSON file in the attempt's folder. It holds no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

#: The child wrote a checkpoint and stopped because it was asked to (EX_TEMPFAIL of sysexits.h).
EXIT_STOPPED = 75
#: The child said why it failed in a FailureEvent.
EXIT_FAILED = 1


class ChildTask(BaseModel):
    """One attempt at one job, all paths absolute."""

    model_config = ConfigDict(frozen=True)

    spec: dict[str, Any]
    work_dir: Path
    dataset_path: Path
    model_dir: Path
    output_dir: Path
    checkpoints_dir: Path
    resume_from: Path | None
    #: Indices of the GPUs that the child may see.
    gpus: tuple[int, ...]
