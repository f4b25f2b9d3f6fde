"""Ways to train that take turns at each step, so that a busy machine slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from workers.local_models.tokens import Int64s


@dataclass
class Contender:
    """One way to train, with its own copy of the model. `step` trains on rows and returns the loss in nats."""

    name: str
    step: Callable[[Int64s], float]
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def take(self, rows: Int64s) -> None:
        """One step, timed by the wall clock and by the processor."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.losses.append(self.step(rows))
        self.wall_s.append(time.perf_counter() - wall)
        self.cpu_s.append(time.process_time() - cpu)
