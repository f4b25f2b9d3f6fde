"""The inference worker: `python -m workers.inference`. It makes what is deployed true on this host.

Deployments are desired state in the database. The worker claims those that nobody serves and that fit its memory, and
compares, every half second, what is wanted with what runs. It keeps serving while the database is away.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import UUID

from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest
from storage.database import Database, DatabaseUnavailable, UnitOfWork
from storage.objects import ObjectSettings, ObjectStore
from storage.settings import LeaseTimes, Settings
from storage.tables import DeploymentRow
from workers.engines.registry import ENGINES
from workers.host import HostConfig
from workers.model_cache import ModelCache
from workers.pulls import Base, find_base
from workers.serving import Means, Observed, Service, Wanted
from workers.wakeup import Wakeup

log = logging.getLogger(__name__)

#: Seconds between two looks at the database. Somebody may be waiting for a deployment to start.
POLL_S = 0.5
#: Downloads at the same time; each is parallel inside.
PULLS_MAX = 2


@dataclass
class Reconciler:
    """Compares what is wanted with what runs, and brings them together. Times are monotonic seconds."""

    database: Database
    host: str
    memory_bytes: int
    lease: LeaseTimes
    means: Means
    #: Keep a spare engine process that has imported its libraries.
    warm: bool = True
    services: dict[UUID, Service] = field(default_factory=dict)
    _rows: Sequence[DeploymentRow] = ()
    #: What the adapters among them change, by the deployment's id.
    _bases: Mapping[UUID, Base] = field(default_factory=dict)
    _looked_at_s: float = float("-inf")
    _renewed_at_s: float = float("-inf")
    _database_away: bool = False
    #: Folders of the model cache that were in use at the last tick.
    _in_use: set[str] = field(default_factory=set)

    def tick(self, now_s: float) -> None:
        """One step of everything; blocks for no longer than the database does."""
        if now_s - self._looked_at_s >= POLL_S:
            self._looked_at_s = now_s
            with self._tolerating_absence():
                self._rows = self._read(now_s)
                self._adopt(now_s)
        for service in self.services.values():
            _tick(service, now_s)
        with self._tolerating_absence():
            self._report()
            self._remove_ended()
        self._prune()
        if self.warm and all(service.settled for service in self.services.values()):
            for engine in self.means.engines.values():
                engine.keep_warm()

    def stop(self, now_s: float) -> None:
        """Hands the deployments back, so that others may serve them, and asks all engines to end."""
        with self._tolerating_absence(), self.database.unit_of_work() as work:
            work.deployments.release(self.host)
        for engine in self.means.engines.values():
            engine.close()
        for service in self.services.values():
            service.end(now_s)

    @property
    def stopped(self) -> bool:
        return all(service.ended for service in self.services.values())

    def wake_fds(self) -> list[int]:
        return [fd for service in self.services.values() for fd in service.wake_fds()]

    def _read(self, now_s: float) -> Sequence[DeploymentRow]:
        """Renews what is due, claims what is free, and returns all that this host holds."""
        with self.database.unit_of_work() as work:
            if now_s - self._renewed_at_s >= self.lease.heartbeat_s:
                work.deployments.renew(self.host, lease_s=self.lease.lease_s)
            work.hosts.lock(self.host)
            used_bytes = sum(row.memory_bytes for row in work.deployments.held(self.host))
            used_bytes += sum(job.memory_bytes for job in work.jobs.active(self.host))
            while row := work.deployments.claim(
                self.host, memory_bytes_free=self.memory_bytes - used_bytes, lease_s=self.lease.lease_s
            ):
                log.info("deployment %s (%s) is claimed", row.name, row.id)
                used_bytes += row.memory_bytes
            rows = work.deployments.held(self.host)
            self._bases = {row.id: base for row in rows if (base := _base(work, row)) is not None}
        if now_s - self._renewed_at_s >= self.lease.heartbeat_s:
            self._renewed_at_s = now_s
        if self._database_away:
            log.info("the database is back")
            self._database_away = False
        return rows

    def _adopt(self, now_s: float) -> None:
        wanted = {row.id: row for row in self._rows if row.wanted}
        for deployment_id, row in wanted.items():
            service = self.services.get(deployment_id)
            if service is None:
                self.services[deployment_id] = Service(self.means, self._wanted(row))
            elif not service.ending and service.wanted.generation != row.generation:
                service.want(self._wanted(row), now_s)
            # else: wanted again while it is being stopped; a new one follows when it is gone.
        for deployment_id, service in self.services.items():
            if deployment_id not in wanted:
                service.end(now_s)

    def _wanted(self, row: DeploymentRow) -> Wanted:
        version = row.model_version
        return Wanted(
            deployment_id=row.id,
            generation=row.generation,
            model=f"{version.model.owner.name}/{version.model.name}@{version.version}",
            prefix=version.prefix,
            manifest=Manifest.model_validate(version.manifest),
            engine=row.engine,
            replicas=row.replicas,
            base=self._bases.get(row.id),
        )

    def _report(self) -> None:
        """Writes what differs from what the database shows."""
        news = []
        for row in self._rows:
            service = self.services.get(row.id)
            if service is None or not row.wanted or service.wanted.generation != row.generation:
                continue
            observed = service.observed()
            if observed != Observed(row.state, row.reason, row.message, row.endpoint, row.endpoint_key):
                news.append((row, observed))
        if not news:
            return
        with self.database.unit_of_work() as work:
            for row, observed in news:
                work.deployments.report(
                    row.id,
                    self.host,
                    row.generation,
                    state=observed.state,
                    reason=observed.reason,
                    message=observed.message,
                    endpoint=observed.endpoint,
                    endpoint_key=observed.endpoint_key,
                )
        # Not after every tick: the row as read now stands for what was written.
        self._looked_at_s = float("-inf")

    def _remove_ended(self) -> None:
        """Forgets services whose engines are gone, and deletes the rows that nobody wants any more."""
        ended = [deployment_id for deployment_id, service in self.services.items() if service.ended]
        for deployment_id in ended:
            del self.services[deployment_id]
        unwanted = [row for row in self._rows if not row.wanted and row.id not in self.services]
        if unwanted:
            with self.database.unit_of_work() as work:
                for row in unwanted:
                    work.deployments.remove(row.id, self.host, row.generation)
            self._rows = [row for row in self._rows if row not in unwanted]

    def _prune(self) -> None:
        """Thins out the cache when a model has come out of use: at the end of a deployment, and after a switch."""
        in_use = {name for service in self.services.values() for name in service.cached()}
        if not self._in_use <= in_use:
            self.means.cache.prune(in_use)
        self._in_use = in_use

    @contextlib.contextmanager
    def _tolerating_absence(self) -> Iterator[None]:
        """What runs goes on running while the database is away; it is said once."""
        try:
            yield
        except DatabaseUnavailable as error:
            if not self._database_away:
                log.warning("%s What is served goes on being served.", error)
            self._database_away = True


def _tick(service: Service, now_s: float) -> None:
    """A defect met for one deployment is no reason to stop serving the others; it shows at its own."""
    try:
        service.tick(now_s)
    except Exception as error:
        if service.hinder(Reason.internal_error, f"{type(error).__name__}: {error}"):
            log.exception("%s: a defect", service.wanted.model)


def _base(work: UnitOfWork, row: DeploymentRow) -> Base | None:
    """What the deployed model changes; None for a model that stands alone."""
    version = row.model_version
    origin = Manifest.model_validate(version.manifest).base if version.manifest.get("base") else None
    return None if origin is None else find_base(work, version.model.owner_id, origin)


def run(settings: Settings, config: HostConfig, *, threads: int, warm: bool) -> None:
    """Serves until SIGTERM or SIGINT. Raises ValueError or RuntimeError for settings that can't work."""
    wakeup = Wakeup()
    wakeup.catch_signals()
    database = Database(settings.database_url, connections_max=2, application="eigenwerk-inference")
    store = ObjectStore(
        ObjectSettings(
            settings.s3_endpoint,
            settings.s3_access_key,
            settings.s3_secret_key,
            bucket=settings.s3_bucket,
            region=settings.s3_region,
        )
    )
    scratch_dir = config.scratch_dir / "inference"
    with ThreadPoolExecutor(PULLS_MAX, thread_name_prefix="pull") as pool:
        means = Means(
            engines={name: make(scratch_dir / "logs") for name, make in ENGINES.items()},
            cache=ModelCache(scratch_dir / "models", store),
            pool=pool,
            wakeup=wakeup,
            threads=threads,
        )
        reconciler = Reconciler(database, config.name, config.memory_bytes, settings.lease, means, warm)
        log.info("inference worker %s: %d bytes of memory", config.name, config.memory_bytes)
        while not wakeup.stopping:
            reconciler.tick(time.monotonic())
            wakeup.wait(POLL_S, reconciler.wake_fds())
        log.info("stopping")
        reconciler.stop(time.monotonic())
        while not reconciler.stopped:
            for service in reconciler.services.values():
                _tick(service, time.monotonic())
            wakeup.wait(POLL_S / 10)
    store.close()
    database.close()
    wakeup.close()


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    run(
        Settings.from_environment(),
        HostConfig.from_environment(),
        threads=int(os.environ.get("EIGENWERK_ENGINE_THREADS") or 1),
        warm=os.environ.get("EIGENWERK_WARM_ENGINE", "1") != "0",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
