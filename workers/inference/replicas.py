"""The replicas of one model: N engine processes behind one port, started again when they die.

Replicas share the port by SO_REUSEPORT: the kernel spreads *connections* over the processes that listen, so a dead
one gets none. A client with a single connection talks to a single replica.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from jobspecs.lifecycle import Reason
from storage.repositories.tallies import Event
from storage.settings import DRAIN_S
from workers.engines.interface import (
    Engine,
    EngineFailure,
    EngineOrder,
    EngineProcess,
    EngineState,
    Load,
    ServedAdapter,
    Tokens,
)
from workers.inference.adapter_changes import AdapterChange
from workers.run.context import RunFailed

log = logging.getLogger(__name__)

#: Tokens, by what became of them and the model's task.
TokenCounts = Counter[tuple[Event, str]]


@dataclass(frozen=True)
class RestartPolicy:
    """When a dead engine is started again, and when it is given up."""

    backoff_first_s: float = 0.5
    backoff_max_s: float = 30.0
    #: A death within this many seconds of the start is a quick one; it lengthens the backoff.
    quick_s: float = 60.0
    #: After so many quick deaths in a row the model has failed.
    quick_deaths_max: int = 5
    #: A process that is not ready after this many seconds is killed, and counts as a quick death.
    start_timeout_s: float = 300.0
    #: Seconds that answers in hand get at the end of a process.
    drain_s: float = DRAIN_S
    #: Seconds from then on until SIGKILL.
    stop_grace_s: float = 15.0

    def backoff_s(self, quick_deaths: int) -> float:
        return min(self.backoff_max_s, self.backoff_first_s * 2.0 ** max(0, quick_deaths - 1))


@dataclass
class _Replica:
    process: EngineProcess | None = None
    started_at_s: float = 0.0
    start_again_at_s: float = 0.0
    quick_deaths: int = 0
    #: Those of the present process that were added already.
    tokens: Tokens = field(default_factory=Tokens)


@dataclass
class ReplicaSet:
    """`replicas` processes for one order. Times are seconds of one monotonic clock, given by the caller."""

    engine: Engine
    order: EngineOrder
    replicas: int
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    #: What processes tell of is added here, whatever becomes of them.
    tokens: TokenCounts = field(default_factory=Counter)
    failure: EngineFailure | None = None
    #: Of the adapters beside its model.
    change: AdapterChange = field(default_factory=AdapterChange)

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise ValueError("replicas must be at least 1")
        # Bound but not listening: nobody else gets the port, and no connection ends here.
        self._port_holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._port_holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # For engines that know nothing of SO_REUSEPORT: beside a socket that doesn't listen this is enough.
        self._port_holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port_holder.bind(("127.0.0.1", self.order.port))
        self.order = replace(self.order, port=self._port_holder.getsockname()[1])
        self._members = [_Replica() for _ in range(self.replicas)]
        self._stopping_since_s: float | None = None

    @property
    def endpoint(self) -> str:
        return self.order.external.url if self.order.external else f"http://127.0.0.1:{self.order.port}"

    @property
    def load(self) -> Load:
        """Of all replicas together; the fullest one's cache."""
        loads = [member.process.load() for member in self._members if member.process is not None]
        shares = [load.cache_share for load in loads if load.cache_share is not None]
        running, waiting = sum(load.running for load in loads), sum(load.waiting for load in loads)
        return Load(running, waiting, max(shares, default=None))

    @property
    def ready(self) -> bool:
        """Whether at least one replica serves."""
        return self.failure is None and any(
            member.process is not None and member.process.state() is EngineState.ready for member in self._members
        )

    @property
    def complete(self) -> bool:
        """Whether every replica serves."""
        return self.failure is None and all(
            member.process is not None and member.process.state() is EngineState.ready for member in self._members
        )

    @property
    def asleep(self) -> bool:
        """Whether every replica sleeps."""
        return all(
            member.process is not None and member.process.state() is EngineState.asleep for member in self._members
        )

    @property
    def awake(self) -> bool:
        """Whether every replica is ready and stays so."""
        return all(member.process is not None and member.process.awake for member in self._members)

    @property
    def can_sleep(self) -> bool:
        """Whether all processes live that should, and can put their weights away."""
        processes = [member.process for member in self._members if member.process is not None]
        return self.failure is None and len(processes) == self.replicas and all(one.can_sleep for one in processes)

    def sleep(self) -> bool:
        """Asks all processes to put their weights away, when nothing is in hand; False when one has refused.

        Call it again until they are `asleep`.
        """
        if self.load.running + self.load.waiting > 0:
            return True
        return all(member.process is not None and member.process.sleep() for member in self._members)

    def wake(self) -> bool:
        """As `sleep`; then they are `ready`."""
        return all(member.process is not None and member.process.wake() for member in self._members)

    def can_have(self, adapters: Sequence[ServedAdapter]) -> bool:
        """Whether all processes serve, and can come to have these and no others beside their model."""
        return self.complete and all(
            member.process is not None and member.process.can_have(adapters) for member in self._members
        )

    @property
    def adapters(self) -> tuple[ServedAdapter, ...]:
        """Whose folders are read, or may be."""
        return (*self.order.adapters, *self.change.beside)

    @property
    def pids(self) -> list[int]:
        return [member.process.pid for member in self._members if member.process is not None]

    def wake_fds(self) -> list[int]:
        fds = [member.process.wake_fd() for member in self._members if member.process is not None]
        return [fd for fd in fds if fd is not None]

    def tick(self, now_s: float) -> None:
        """Looks at every process; starts those that are due."""
        if self._stopping_since_s is not None:
            self._press_on(now_s, self._stopping_since_s)
            return
        for number, member in enumerate(self._members):
            if self.failure is not None:
                break
            if member.process is None:
                if now_s >= member.start_again_at_s:
                    self._start(member, self._order_of(number), now_s)
            else:
                self._look_at(member, member.process, now_s)
        if self.failure is not None:
            self.stop(now_s)
        else:
            serving = [member.process for member in self._members if member.process is not None]
            self.order = self.change.step(self.order, serving, self.replicas, now_s)

    def stop(self, now_s: float) -> None:
        """Asks all processes to end; go on calling `tick` until `stopped`."""
        if self._stopping_since_s is None:
            self._stopping_since_s = now_s
            for member in self._members:
                if member.process is not None:
                    member.process.terminate()
            self._press_on(now_s, now_s)

    @property
    def stopped(self) -> bool:
        return self._stopping_since_s is not None and not self.pids

    def _order_of(self, number: int) -> EngineOrder:
        """Each replica sees one of the GPUs, in turn: the engine computes on one only."""
        gpu_ids = self.order.gpu_ids
        return replace(self.order, gpu_ids=(gpu_ids[number % len(gpu_ids)],)) if gpu_ids else self.order

    def _start(self, member: _Replica, order: EngineOrder, now_s: float) -> None:
        member.started_at_s = now_s
        member.tokens = Tokens()
        try:
            member.process = self.engine.start(order)
        except RunFailed as error:
            self.failure = EngineFailure(error.reason, error.message)
        except OSError as error:
            self._count_death(member, f"could not be started: {error}", "", now_s)

    def _look_at(self, member: _Replica, process: EngineProcess, now_s: float) -> None:
        state, age_s = self._state(member, process), now_s - member.started_at_s
        if state is EngineState.starting and age_s > self.policy.start_timeout_s:
            log.warning("engine %d for %s is not ready after %.0f s: killed", process.pid, self.order.model, age_s)
            process.kill()
        elif state is EngineState.ready and age_s > self.policy.quick_s:
            member.quick_deaths = 0
        elif state is EngineState.exited:
            self._bury(member, process, now_s)

    def _state(self, member: _Replica, process: EngineProcess) -> EngineState:
        """The process's state now; the tokens that it has told of since the last look are added."""
        state, told, known = process.state(), process.tokens(), member.tokens
        self.tokens["prompt_tokens", self.order.task] += told.prompt - known.prompt
        self.tokens["generated_tokens", self.order.task] += told.generated - known.generated
        member.tokens = told
        return state

    def _bury(self, member: _Replica, process: EngineProcess, now_s: float) -> None:
        text, tail = process.exit_text(), process.log_tail()
        log.warning("engine %d for %s %s", process.pid, self.order.model, text)
        # It may have been an adapter that ended it: nobody tries that on and on.
        self.change.refuse(EngineFailure(Reason.crashed, f"The engine {text} while it loaded adapters."), now_s)
        self.failure = process.failure()
        process.close()
        member.process = None
        self._count_death(member, text, tail, now_s)

    def _count_death(self, member: _Replica, text: str, tail: str, now_s: float) -> None:
        member.quick_deaths = member.quick_deaths + 1 if now_s - member.started_at_s < self.policy.quick_s else 0
        # A replica that serves shows that the model can be served: then the others are tried again and again.
        if self.failure is None and member.quick_deaths >= self.policy.quick_deaths_max and not self.ready:
            message = f"The engine failed {member.quick_deaths} times soon after its start; the last time it {text}."
            self.failure = EngineFailure(Reason.crashed, f"{message}\n{tail}".strip())
        member.start_again_at_s = now_s + self.policy.backoff_s(member.quick_deaths)

    def _press_on(self, now_s: float, stopping_since_s: float) -> None:
        for member in self._members:
            if member.process is None:
                continue
            if self._state(member, member.process) is EngineState.exited:
                member.process.close()
                member.process = None
            elif now_s - stopping_since_s > self.policy.drain_s + self.policy.stop_grace_s:
                member.process.kill()
        if not self.pids:
            self._port_holder.close()
