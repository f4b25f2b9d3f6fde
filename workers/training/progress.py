"""Tells how far training is, often enough to watch and seldom enough not to matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from jobspecs.events import ChildEvent, ProgressEvent
from workers.local_models.tokens import Int64s

#: Seconds between two progress events.
_EVERY_S = 0.25
#: A sequence costs this share of a training step when it is only judged: no backward pass.
_FORWARD_SHARE = 1 / 3


class Plan(Protocol):
    """Which rows make up each step of a run."""

    @property
    def batch_size(self) -> int:
        """Rows of a usual step."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps that see every row once."""

    @property
    def steps_total(self) -> int:
        """Steps of the whole run."""

    def rows(self, step: int) -> Int64s:
        """The rows of step `step`, counted from 0, whatever steps were asked for before."""


class Progress:
    """Speed and ETA are measured over this attempt, from its first step on."""

    def __init__(
        self,
        emit: Callable[[ChildEvent], None],
        plan: Plan,
        judged_later: int,
        clock: Callable[[], float],
    ) -> None:
        self._emit, self._plan, self._clock = emit, plan, clock
        self._judged_later = judged_later
        self._begun, self._told = clock(), float("-inf")
        #: Sequences trained on in this attempt.
        self.sequences = 0

    def report(self, step: int, loss: float, rate: float) -> None:
        """Call after every step; `step` counts those done. Emits the first, the last and a few per second between."""
        self.sequences += len(self._plan.rows(step - 1))
        now = self._clock()
        if now - self._told < _EVERY_S and step < self._plan.steps_total:
            return
        self._told = now
        per_s = self.sequences / max(now - self._begun, 1e-9)
        left = (self._plan.steps_total - step) * self._plan.batch_size + self._judged_later * _FORWARD_SHARE
        self._emit(
            ProgressEvent(
                stage="train",
                step=step,
                steps_total=self._plan.steps_total,
                epoch=step / self._plan.steps_per_epoch,
                loss=loss,
                learning_rate=rate,
                sequences_per_s=per_s,
                eta_s=left / per_s,
            )
        )
