"""What this process itself counts, for Prometheus. One registry per application: several may live in one process.

What the platform as a whole knows is read from the database: `api/health/figures.py`.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

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

    def exposition(self) -> bytes:
        """The text format."""
        return generate_latest(self._registry)
