"""One deployment on this host: pulls its model, starts its engine, and changes to another version without a gap."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from jobspecs.lifecycle import Reason
from workers.engines.interface import EngineFailure, Load
from workers.inference.means import Means
from workers.inference.pulls import Pulled, failure_of, is_passing, pull
from workers.inference.replicas import ReplicaSet
from workers.inference.wanted import Observed, Wanted
from workers.run.context import RunFailed

log = logging.getLogger(__name__)

#: Seconds for which the old engine serves on after a change: whoever read its address just before still gets an answer.
LINGER_S = 5.0
PULL_BACKOFF_S = (1.0, 2.0, 5.0, 15.0)


class Service:
    """Brings one deployment to what is wanted, a step per `tick`. Times are monotonic seconds; no method blocks."""

    def __init__(self, means: Means, wanted: Wanted) -> None:
        self._means = means
        self.wanted = wanted
        #: Serves, or is being restarted; of an older generation while `_next` starts.
        self._current: tuple[Wanted, ReplicaSet] | None = None
        self._next: ReplicaSet | None = None
        #: `_current` is being brought to the wanted adapters.
        self._changing = False
        self._pull: Future[Pulled] | None = None
        self._pull_at_s = 0.0
        self._pulls_failed = 0
        #: A damaged copy on this host has been thrown away once for this generation.
        self._fetched_anew = False
        #: Why this generation won't be served.
        self._failure: EngineFailure | None = None
        #: What is in the way at the moment.
        self._hindrance: EngineFailure | None = None
        self._leaving: list[tuple[ReplicaSet, float]] = []
        #: `end` was called: it serves nothing any more.
        self.ending = False
        #: From when on its engines may put their weights away; None: they serve.
        self._dozing_from_s: float | None = None

    def want(self, wanted: Wanted, now_s: float) -> None:
        """Takes a new generation; the old one serves until the new one is ready."""
        if wanted.generation == self.wanted.generation:
            return
        self.wanted = wanted
        self._drop_next(now_s)
        if self._current is not None:
            self._current[1].change.abandon(now_s)
        self._changing = False
        self._pull, self._pull_at_s, self._pulls_failed = None, 0.0, 0
        self._failure = self._hindrance = None
        self._fetched_anew = False

    def end(self, now_s: float, *, linger_s: float = 0.0) -> None:
        """Stops all engines; go on calling `tick` until `ended`. What serves goes on for `linger_s` seconds."""
        self.ending = True
        self._leaving = [(replicas, now_s) for replicas, _ in self._leaving]
        self._drop_next(now_s)
        self._drop_current(now_s + linger_s)

    def doze(self, now_s: float) -> bool:
        """Lets the engines put their weights away and keep their place; False when they can't, or there are none.

        They go on for LINGER_S: whoever read their address just before still gets an answer. Call it again until it is
        `asleep`.
        """
        if self._dozing_from_s is None:
            self._dozing_from_s = now_s + LINGER_S
        replicas = self._current[1] if self._serves_wanted() and self._current and self._next is None else None
        if replicas is None or not replicas.can_sleep:
            return False
        return now_s < self._dozing_from_s or replicas.sleep()

    def rouse(self, now_s: float) -> None:
        """Ends `doze`. Engines that would not wake are started anew."""
        if self._dozing_from_s is None:
            return
        replicas = self._current[1] if self._current else None
        if replicas is None or replicas.awake:
            self._dozing_from_s = None
        elif not replicas.wake():
            self._dozing_from_s = None
            self._drop_current(now_s)

    @property
    def dozes(self) -> bool:
        return self._dozing_from_s is not None

    @property
    def asleep(self) -> bool:
        return self.dozes and self._current is not None and self._current[1].asleep

    def hinder(self, reason: Reason, message: str) -> bool:
        """Notes what is in the way; False when it was known already."""
        before, self._hindrance = self._hindrance, EngineFailure(reason, message)
        return before != self._hindrance

    @property
    def ended(self) -> bool:
        return self.ending and not self._leaving

    def uses_only(self, generation: int | None) -> bool:
        """Whether no engine runs that this generation has not asked for; None: nothing is asked for."""
        as_wanted = self._current is None or self._serves_wanted()
        return self.wanted.generation == generation and as_wanted and not self._leaving

    @property
    def settled(self) -> bool:
        """Whether nothing is being fetched or started."""
        return self._failure is not None or (self._serves_wanted() and self._next is None)

    def cached(self) -> set[str]:
        """The model folders that are in use: also by engines that serve a last request."""
        orders = [replicas.order for replicas in self._sets()]
        bases = {order.base_dir.name for order in orders if order.base_dir is not None}
        beside = {adapter.digest for replicas in self._sets() for adapter in replicas.adapters}
        return {order.digest for order in orders if order.digest} | bases | beside | self.wanted.cached

    def endpoints(self) -> list[str]:
        """Of all its engines that may still be asked."""
        return [replicas.endpoint for replicas in self._sets()]

    def wake_fds(self) -> list[int]:
        return [fd for replicas in self._sets() for fd in replicas.wake_fds()]

    def observed(self) -> Observed:
        """What is true now. An older generation that still serves keeps its endpoint."""
        replicas = self._current[1] if self._current else None
        endpoint: tuple[str | None, str | None, str | None] = (None, None, None)
        if replicas and replicas.ready:
            endpoint = (replicas.endpoint, replicas.order.key, replicas.engine.served_name(replicas.order))
        if self._failure is not None:
            return Observed("failed", self._failure.reason.value, self._failure.message, *endpoint)
        if endpoint[0] and self._serves_wanted():
            return Observed("ready", None, None, *endpoint)
        if self.asleep:
            return Observed("asleep")
        hindrance = self._hindrance
        reason, message = (hindrance.reason.value, hindrance.message) if hindrance else (None, None)
        return Observed("starting", reason, message, *endpoint)

    def load(self) -> Load | None:
        """What the engines that answer have in hand; None while none does."""
        return self._current[1].load if self._current and self._current[1].ready else None

    def tick(self, now_s: float) -> None:
        """One step: looks at the engines, and goes on with what is to be done."""
        for replicas in self._sets():
            replicas.tick(now_s)
        for replicas, stop_at_s in self._leaving:
            if now_s >= stop_at_s:
                replicas.stop(now_s)
        self._leaving = [(replicas, stop_at_s) for replicas, stop_at_s in self._leaving if not replicas.stopped]
        if self._current is not None and self._current[1].failure is not None:
            self._current_failed(*self._current, now_s)
        if self.ending or self._failure is not None or self._serves_wanted():
            return
        if self._changing and self._current is not None:
            self._look_at_change(self._current[1])
        elif self._next is not None:
            self._look_at_next(self._next, now_s)
        elif self._pull is not None:
            self._look_at_pull(self._pull, now_s)
        elif now_s >= self._pull_at_s:
            self._start_pull(now_s)

    def _sets(self) -> list[ReplicaSet]:
        sets = [replicas for replicas, _ in self._leaving]
        sets += [self._current[1]] if self._current else []
        return [*sets, self._next] if self._next else sets

    def _serves_wanted(self) -> bool:
        return self._current is not None and self.wanted.served_by(self._current[0])

    def _start_pull(self, now_s: float) -> None:
        if self.wanted.engine not in self._means.engines:
            known = ", ".join(sorted(self._means.engines))
            self._failure = EngineFailure(
                Reason.unsatisfiable, f"This host has no engine {self.wanted.engine!r}. It has: {known}."
            )
            return
        wanted = self.wanted
        if wanted.stored is None:
            self._start_engines(Pulled(Path(), None), now_s)
            return
        fetch = partial(pull, hub_access=self._means.hub_access)
        self._pull = self._means.pool.submit(fetch, self._means.folders, wanted.stored, wanted.base, wanted.adapters)
        self._pull.add_done_callback(lambda _: self._means.wakeup.poke())

    def _look_at_pull(self, pulling: Future[Pulled], now_s: float) -> None:
        if not pulling.done():
            return
        self._pull = None
        error = pulling.exception()
        if error is None:
            self._hindrance = None
            self._take(pulling.result(), now_s)
        elif is_passing(error):
            self._hindrance = failure_of(error)
            self._pull_at_s = now_s + PULL_BACKOFF_S[min(self._pulls_failed, len(PULL_BACKOFF_S) - 1)]
            self._pulls_failed += 1
            log.warning("%s can't be fetched yet: %s", self.wanted.model, error)
        elif isinstance(error, RunFailed):
            self._engines_failed(failure_of(error))
        else:
            self._failure = failure_of(error)
            log.error("%s can't be served: %s", self.wanted.model, self._failure.message, exc_info=error)

    def _take(self, pulled: Pulled, now_s: float) -> None:
        """Engines that serve all but the wanted adapters get these, where they can; others are started."""
        served, replicas = self._current or (None, None)
        if served and replicas and self.wanted.differs_in_adapters(served) and replicas.can_have(pulled.adapters):
            self._changing = True
            replicas.change.begin(pulled.adapters, LINGER_S)
        else:
            self._start_engines(pulled, now_s)

    def _look_at_change(self, replicas: ReplicaSet) -> None:
        if replicas.change.failure is not None:
            self._changing = False
            self._engines_failed(replicas.change.failure)
        elif not replicas.change.under_way:
            self._changing = False
            self._current = self.wanted, replicas
            log.info("%s has its adapters at %s", self.wanted.model, replicas.endpoint)

    def _start_engines(self, pulled: Pulled, now_s: float) -> None:
        order = self._means.order_for(self.wanted, pulled)
        engine = self._means.engines[self.wanted.engine]
        self._next = ReplicaSet(engine, order, self.wanted.replicas, self._means.policy, self._means.tokens)
        self._next.tick(now_s)

    def _look_at_next(self, replicas: ReplicaSet, now_s: float) -> None:
        if replicas.failure is not None:
            self._drop_next(now_s)
            self._engines_failed(replicas.failure)
        elif replicas.complete:
            self._drop_current(now_s + LINGER_S)
            self._current, self._next = (self.wanted, replicas), None
            log.info("%s is served at %s", self.wanted.model, replicas.endpoint)

    def _current_failed(self, served: Wanted, replicas: ReplicaSet, now_s: float) -> None:
        self._drop_current(now_s)
        # The death of an older generation says nothing about the new one, which is on its way.
        if replicas.failure is not None and self.wanted.served_by(served):
            self._engines_failed(replicas.failure)

    def _engines_failed(self, failure: EngineFailure) -> None:
        if failure.reason is Reason.corrupt_artifact and not self._fetched_anew:
            # The copy on this host may be what is damaged; what is fetched anew is checked on the way.
            log.warning("%s: %s It is fetched anew.", self.wanted.model, failure.message)
            self._fetched_anew = True
            for name in self.wanted.cached:
                self._means.folders.discard(name)
        else:
            self._failure = failure
            log.error("%s can't be served: %s", self.wanted.model, failure.message)

    def _drop_next(self, now_s: float) -> None:
        if self._next is not None:
            self._leaving.append((self._next, now_s))
            self._next = None

    def _drop_current(self, stop_at_s: float) -> None:
        if self._current is not None:
            self._leaving.append((self._current[1], stop_at_s))
            self._current, self._changing = None, False
