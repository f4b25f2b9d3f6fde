"""The stages that a runner goes through, announced as they come."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from jobspecs.events import StageEvent
from workers.run.context import RunContext, RunStopped


@dataclass
class Stages:
    """Announces each stage, and keeps how long each took, in seconds."""

    context: RunContext
    seconds: dict[str, float] = field(default_factory=dict)
    _current: tuple[str, float] | None = None

    def enter(self, stage: str) -> None:
        """Raises RunStopped between stages: what came before is in a checkpoint or quick to repeat."""
        self.close()
        if self.context.stop_requested():
            raise RunStopped
        self.context.emit(StageEvent(stage=stage))
        self._current = (stage, time.monotonic())

    def close(self) -> None:
        """The present stage is over."""
        if self._current is not None:
            stage, begun = self._current
            self.seconds[stage] = round(time.monotonic() - begun, 3)
            self._current = None
