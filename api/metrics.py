"""Figures for Prometheus. One registry per application, so that several may live in one process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from jobspecs.lifecycle import JobState

#: Seconds; a request that takes longer than the last is a transfer.
_BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.request_seconds = Histogram(
            "eigenwerk_http_request_seconds",
            "Time until the last byte of the answer.",
            ("method", "route", "status"),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self.damaged_transfers = Counter(
            "eigenwerk_damaged_transfers",
            "Downloads broken off because a stored object did not have its sha256.",
            registry=self._registry,
        )
        self._jobs = Gauge("eigenwerk_jobs", "Jobs by state.", ("state",), registry=self._registry)
        self._outbox = Gauge("eigenwerk_outbox_unsent", "Messages that were not sent yet.", registry=self._registry)
        self._queue_age = Gauge(
            "eigenwerk_queue_age_seconds",
            "Time since the job that waits longest came into the queue, for the last time.",
            registry=self._registry,
        )

    def exposition(self, jobs: dict[str, int], outbox_unsent: int, queue_age_s: float) -> bytes:
        """The text format, with the given state of the database."""
        for state in JobState:
            self._jobs.labels(state.value).set(jobs.get(state.value, 0))
        self._outbox.set(outbox_unsent)
        self._queue_age.set(queue_age_s)
        return generate_latest(self._registry)
