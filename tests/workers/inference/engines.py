"""An engine without processes, for tests with a clock of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jobspecs.engines import EMBEDDED
from workers.engines.interface import EngineFailure, EngineOrder, EngineState, Installed, Load, ServedAdapter, Tokens


@dataclass
class Process:
    pid: int
    now: EngineState = EngineState.starting
    given_up: EngineFailure | None = None
    deaf: bool = False
    closed: bool = False
    told: Tokens = field(default_factory=Tokens)
    in_hand: Load = field(default_factory=Load)
    #: Whether it puts its weights away when it is asked to.
    can_sleep: bool = False
    #: Adapters beside its model; those that it was asked for and does not tell of yet; why it takes none.
    adapters: list[ServedAdapter] = field(default_factory=list)
    slow: bool = False
    refuses: EngineFailure | None = None
    takes_adapters: bool = True

    def state(self) -> EngineState:
        return self.now

    def failure(self) -> EngineFailure | None:
        return self.given_up

    def tokens(self) -> Tokens:
        return self.told

    def load(self) -> Load:
        return self.in_hand

    def sleep(self) -> bool:
        self.now = EngineState.asleep
        return self.can_sleep

    def wake(self) -> bool:
        self.now = EngineState.ready
        return self.can_sleep

    def can_have(self, adapters: Sequence[ServedAdapter]) -> bool:
        return self.takes_adapters

    def load_adapters(self, adapters: Sequence[ServedAdapter]) -> bool | EngineFailure:
        missing = [adapter for adapter in adapters if adapter not in self.adapters]
        if missing and self.refuses is not None:
            return self.refuses
        if not self.slow:
            self.adapters += missing
        return not missing or not self.slow

    def unload_adapters(self, kept: Sequence[ServedAdapter]) -> bool:
        self.adapters = [adapter for adapter in self.adapters if adapter in kept]
        return True

    @property
    def asked_to_sleep(self) -> bool:
        return self.now is EngineState.asleep

    @property
    def awake(self) -> bool:
        return self.now is EngineState.ready

    def terminate(self) -> None:
        if not self.deaf:
            self.now = EngineState.exited

    def kill(self) -> None:
        self.now = EngineState.exited

    def exit_text(self) -> str:
        return "was ended by SIGSEGV"

    def log_tail(self) -> str:
        return "last words"

    def wake_fd(self) -> int | None:
        return None

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeEngine:
    started: list[Process] = field(default_factory=list)
    orders: list[EngineOrder] = field(default_factory=list)
    refuses: bool = False
    can_sleep: bool = False

    def installed(self) -> Installed:
        return Installed("1")

    def served_name(self, order: EngineOrder) -> str | None:
        return EMBEDDED.told("", [adapter.name for adapter in order.adapters]) if order.adapters else None

    def start(self, order: EngineOrder) -> Process:
        if self.refuses:
            raise OSError("no more processes")
        self.orders.append(order)
        process = Process(pid=len(self.started) + 1, can_sleep=self.can_sleep, adapters=list(order.adapters))
        self.started.append(process)
        return self.started[-1]

    def keep_warm(self) -> None:
        pass

    def close(self) -> None:
        pass
