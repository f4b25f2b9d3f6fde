"""An engine without processes, for tests with a clock of their own."""

from __future__ import annotations

from dataclasses import dataclass, field

from workers.engines.interface import EngineFailure, EngineOrder, EngineState, Installed, Load, Tokens


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
        return None

    def start(self, order: EngineOrder) -> Process:
        if self.refuses:
            raise OSError("no more processes")
        self.orders.append(order)
        self.started.append(Process(pid=len(self.started) + 1, can_sleep=self.can_sleep))
        return self.started[-1]

    def keep_warm(self) -> None:
        pass

    def close(self) -> None:
        pass
