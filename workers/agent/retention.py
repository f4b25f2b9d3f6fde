"""Deletes what the operator doesn't want to keep for ever. By default nothing: whatever people made stays."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from storage.database import Database, UnitOfWork
from storage.repositories.registry.removal import Use
from storage.tables import DatasetVersionRow, ModelVersionRow

Version = TypeVar("Version", ModelVersionRow, DatasetVersionRow)

_DAY_S = 24 * 3600.0
_GIB = 1 << 30


@dataclass(frozen=True)
class VersionsKept:
    """Which versions of models, or of data sets, may go. Never one that is needed, nor the newest of its name."""

    older_than_s: float | None = None
    #: Per owner, counted from the newest version.
    bytes_max: int | None = None

    @property
    def unlimited(self) -> bool:
        return self.older_than_s is None and self.bytes_max is None


@dataclass(frozen=True)
class Retention:
    """What is kept for how long, seconds and bytes; None: for ever."""

    #: Log, progress and metrics of ended jobs.
    events_s: float | None = None
    models: VersionsKept = VersionsKept()
    datasets: VersionsKept = VersionsKept()
    #: Of all jobs together; those of the jobs that ended first go.
    events_bytes_max: float | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Retention:
        """Reads _DAYS and _GIB of EIGENWERK_KEEP_EVENTS, EIGENWERK_KEEP_MODELS and EIGENWERK_KEEP_DATASETS.

        Raises RuntimeError for what is no positive number.
        """
        values = os.environ if environment is None else environment
        return cls(
            events_s=_scaled(values, "EIGENWERK_KEEP_EVENTS_DAYS", _DAY_S),
            models=_versions(values, "EIGENWERK_KEEP_MODELS"),
            datasets=_versions(values, "EIGENWERK_KEEP_DATASETS"),
            events_bytes_max=_scaled(values, "EIGENWERK_KEEP_EVENTS_GIB", _GIB),
        )


def _versions(values: Mapping[str, str], name: str) -> VersionsKept:
    bytes_max = _scaled(values, f"{name}_GIB", _GIB)
    return VersionsKept(_scaled(values, f"{name}_DAYS", _DAY_S), None if bytes_max is None else int(bytes_max))


def _scaled(values: Mapping[str, str], name: str, unit: float) -> float | None:
    written = values.get(name)
    if not written:
        return None
    try:
        number = float(written)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise RuntimeError(f"{name}={written} must be a number above 0; leave it out to keep everything.")
    return number * unit


def apply_retention(database: Database, retention: Retention) -> int:
    """Deletes what may go; returns how many versions, and jobs whose events went. Raises DatabaseUnavailable."""
    models, datasets = retention.models, retention.datasets
    deleted = _forget_events(database, retention)
    deleted += _delete_old(
        database,
        models,
        lambda work: work.stored.old_models(older_than_s=models.older_than_s, bytes_max=models.bytes_max),
        lambda work, row: work.removal.uses_of_models([row]),
        lambda work, row: work.removal.delete_models([row]),
    )
    return deleted + _delete_old(
        database,
        datasets,
        lambda work: work.stored.old_datasets(older_than_s=datasets.older_than_s, bytes_max=datasets.bytes_max),
        lambda work, row: work.removal.uses_of_datasets([row]),
        lambda work, row: work.removal.delete_datasets([row]),
    )


def _forget_events(database: Database, retention: Retention) -> int:
    forgotten = 0
    while retention.events_s is not None:
        with database.unit_of_work() as work:
            jobs = work.stored.forget_events(ended_before_s=retention.events_s)
        forgotten += jobs
        if not jobs:
            break
    return forgotten + _forget_too_many_events(database, retention.events_bytes_max)


def _forget_too_many_events(database: Database, bytes_max: float | None) -> int:
    if bytes_max is None:
        return 0
    with database.unit_of_work() as work:
        beyond = work.stored.events_beyond(bytes_max)
    forgotten = 0
    while beyond > 0:
        with database.unit_of_work() as work:
            jobs, events = work.stored.forget_oldest_events()
        if not jobs:
            break
        forgotten, beyond = forgotten + jobs, beyond - events
    return forgotten


def _delete_old(
    database: Database,
    kept: VersionsKept,
    find: Callable[[UnitOfWork], Sequence[Version]],
    uses: Callable[[UnitOfWork, Version], Sequence[Use]],
    delete: Callable[[UnitOfWork, Version], None],
) -> int:
    if kept.unlimited:
        return 0
    with database.unit_of_work() as work:
        old = find(work)
    deleted = 0
    for row in old:
        # One by one: what is needed is passed over, and no transaction is long.
        with database.unit_of_work() as work:
            if not uses(work, row):
                delete(work, row)
                deleted += 1
    return deleted
