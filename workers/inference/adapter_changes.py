"""How the engines of a deployment come to have other adapters beside their model while they serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from workers.engines.interface import EngineFailure, EngineOrder, EngineProcess, EngineState, ServedAdapter


@dataclass
class AdapterChange:
    """First all processes load what they lack. Once all have all it is their order's, and is told to whoever asks.

    What is wanted no more goes some seconds later. When one process does not take one, the order stays as it was, and
    what was loaded goes again. Times are monotonic seconds.
    """

    #: Why the last change was not made.
    failure: EngineFailure | None = None
    _coming: tuple[ServedAdapter, ...] | None = None
    #: May be in processes, and is wanted no more.
    _leaving: tuple[ServedAdapter, ...] = field(default=())
    _linger_s: float = 0.0
    _unload_at_s: float = float("inf")

    def begin(self, adapters: Sequence[ServedAdapter], linger_s: float) -> None:
        """`linger_s`: for so long adapters that are not among these answer on."""
        self._coming, self.failure, self._linger_s = tuple(adapters), None, linger_s

    def abandon(self, now_s: float) -> None:
        if self._coming is not None:
            self._leaving = (*self._leaving, *self._coming)
            self._coming, self._unload_at_s = None, now_s

    def refuse(self, failure: EngineFailure, now_s: float) -> None:
        """Ends the change that is under way, if there is one."""
        if self._coming is not None:
            self.abandon(now_s)
            self.failure = failure

    @property
    def under_way(self) -> bool:
        """Whether not all processes have yet what they lacked."""
        return self._coming is not None

    @property
    def beside(self) -> tuple[ServedAdapter, ...]:
        """What processes have, or are about to, beside the adapters of their order."""
        return (*(self._coming or ()), *self._leaving)

    def step(self, order: EngineOrder, processes: Sequence[EngineProcess], replicas: int, now_s: float) -> EngineOrder:
        """Goes on with what is to be done; the order that all `replicas` processes are up to from now on."""
        ready = [process for process in processes if process.state() is EngineState.ready]
        if self._coming is not None:
            return self._load(order, self._coming, ready, replicas, now_s)
        if now_s >= self._unload_at_s and all([process.unload_adapters(order.adapters) for process in ready]):
            self._unload_at_s, self._leaving = float("inf"), ()
        return order

    def _load(
        self,
        order: EngineOrder,
        coming: tuple[ServedAdapter, ...],
        ready: Sequence[EngineProcess],
        replicas: int,
        now_s: float,
    ) -> EngineOrder:
        outcomes = [process.load_adapters(coming) for process in ready]
        for outcome in outcomes:
            if isinstance(outcome, EngineFailure):
                self.refuse(outcome, now_s)
                return order
        if len(ready) < replicas or not all(outcomes):
            return order
        self._leaving = (*self._leaving, *order.adapters)
        self._coming, self._unload_at_s = None, now_s + self._linger_s
        return replace(order, adapters=coming)
