"""The stages that a runner goes through, announced as they come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from jobspecs.events import ProgressEvent, StageEvent
from workers.run.context import RunContext


@dataclass
class Stages:
    """Announces each stage, and keeps how long each took, in seconds."""

    context: RunContext
    seconds: dict[str, float] = field(default_factory=dict)
    _current: tuple[str, float] | None = None

    def enter(self, stage: str) -> None:
        """Raises RunStopped between stages: what came before is in a checkpoint or quick to repeat."""
        self.close()
        self.context.check_stop()
        self.context.emit(StageEvent(stage=stage))
        self._current = (stage, time.monotonic())

    def close(self) -> None:
        """The present stage is over."""
        if self._current is not None:
            stage, begun = self._current
            self.seconds[stage] = round(time.monotonic() - begun, 3)
            self._current = None


def progress_of(context: RunContext, stage: str, total: int) -> Callable[[int], None]:
    """What a part without checkpoints calls with how much of `total` is done. Raises RunStopped when asked to stop."""

    def after_batch(done: int) -> None:
        context.check_stop()
        context.emit(ProgressEvent(stage=stage, step=min(done, total), steps_total=total))

    return after_batch
