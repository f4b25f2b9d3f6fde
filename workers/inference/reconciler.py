"""The reconciler makes what is deployed true on this host.

Deployments are desired state in the database. The worker claims those that nobody serves and that fit beside its jobs,
and compares, every half second, what is wanted with what runs. It keeps serving while the database is away.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

from jobspecs.hosts import smallest_gpu_bytes
from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest
from jobspecs.pieces import StoredFile
from storage.database import Database, DatabaseUnavailable, UnitOfWork
from storage.settings import LeaseTimes
from storage.tables import DeploymentRow
from workers.daemon.instance import hold_name
from workers.daemon.machine import MachineWatch
from workers.engines.interface import Installed
from workers.inference.deployed_model import LINGER_S, Service
from workers.inference.front import Front
from workers.inference.means import Means
from workers.inference.places import ClaimTerms, Places
from workers.inference.pulls import Base, find_base
from workers.inference.share_moves import ShareMoves
from workers.inference.wanted import Observed, Wanted

log = logging.getLogger(__name__)

#: Seconds between two looks at the database. Somebody may be waiting for a deployment to start.
POLL_S = 0.5


@dataclass
class Reconciler:
    """Compares what is wanted with what runs, and brings them together. Times are monotonic seconds."""

    database: Database
    host: str
    memory_bytes: int
    lease: LeaseTimes
    means: Means
    #: What deployments may get, as CUDA_VISIBLE_DEVICES names them.
    gpu_ids: tuple[str, ...] = ()
    #: Keep a spare engine process that has imported its libraries.
    warm: bool = True
    #: Who works under the host's name (`workers.daemon.instance`).
    instance: UUID = field(default_factory=uuid4)
    machine: MachineWatch = field(default_factory=MachineWatch)
    #: Where other machines reach the engines; None: only this machine asks them.
    front: Front | None = None
    services: dict[UUID, Service] = field(default_factory=dict)
    _share_moves: ShareMoves = field(init=False)
    _rows: Sequence[DeploymentRow] = ()
    #: What engines here answer for until those of another host do.
    _moving: Collection[UUID] = ()
    #: What another host has taken over, or what went to sleep, since the last look.
    _handed_over: Collection[UUID] = ()
    #: What the adapters among them change, by the deployment's id.
    _bases: Mapping[UUID, Base] = field(default_factory=dict)
    #: What the host could start at the last heartbeat.
    _engines: Mapping[str, Installed] = field(default_factory=dict)
    #: Of the versions that are served here, which never change.
    _files: Mapping[UUID, tuple[StoredFile, ...]] = field(default_factory=dict)
    _looked_at_s: float = float("-inf")
    _renewed_at_s: float = float("-inf")
    _database_away: bool = False
    #: Model folders that were in use at the last tick.
    _in_use: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._share_moves = ShareMoves(self.host)

    def tick(self, now_s: float) -> None:
        """One step of everything; blocks for no longer than the database does. Raises HostNameTaken."""
        if now_s - self._looked_at_s >= POLL_S:
            self._looked_at_s = now_s
            with self._tolerating_absence():
                self._rows = self._read(now_s)
                self._adopt(now_s)
        self.tick_services(now_s)
        with self._tolerating_absence():
            self._report()
            self._remove_ended()
        self._prune()
        if self.front is not None:
            self.front.keep({endpoint for service in self.services.values() for endpoint in service.endpoints()})
        if self.warm and all(service.settled for service in self.services.values()):
            for engine in self.means.engines.values():
                engine.keep_warm()

    def tick_services(self, now_s: float) -> None:
        """One step of every service."""
        for service in self.services.values():
            _tick(service, now_s)

    def stop(self, now_s: float) -> None:
        """Hands the deployments back, so that others may serve them, and asks all engines to end."""
        with self._tolerating_absence(), self.database.unit_of_work() as work:
            work.deployments.release(self.host)
        for engine in self.means.engines.values():
            engine.close()
        if self.front is not None:
            self.front.keep(())
        for service in self.services.values():
            service.end(now_s)

    def tick_ending(self, now_s: float) -> None:
        """One step after `stop`. What engines use stays counted while they give their last answers."""
        self.tick_services(now_s)
        if now_s - self._renewed_at_s < self.lease.heartbeat_s:
            return
        self._renewed_at_s = now_s
        with self._tolerating_absence(), self._counting_tokens() as work:
            hold_name(work, self.host, "serving", self.instance, silent_s=self.lease.lease_s)
            work.hosts.lock(self.host)
            still_used = [key for key, service in self.services.items() if not service.ended]
            work.engine_holds.settle(self.host, still_used)

    def close(self) -> None:
        """Once it has stopped: nothing is used here any more, and another worker may have the host's name."""
        with self._tolerating_absence(), self._counting_tokens() as work:
            work.hosts.lock(self.host)
            work.engine_holds.settle(self.host, [])
            work.hosts.release(self.host, "serving", self.instance)

    @property
    def stopped(self) -> bool:
        return all(service.ended for service in self.services.values())

    def wake_fds(self) -> list[int]:
        return [fd for service in self.services.values() for fd in service.wake_fds()]

    def _read(self, now_s: float) -> Sequence[DeploymentRow]:
        """Renews what is due, claims what is free, and returns all that this host holds."""
        with self._counting_tokens() as work:
            if now_s - self._renewed_at_s >= self.lease.heartbeat_s:
                self._engines = self.means.installed()
                hold_name(work, self.host, "serving", self.instance, silent_s=self.lease.lease_s)
                work.hosts.announce_serving(
                    self.host,
                    memory_bytes=self.memory_bytes,
                    gpus=len(self.gpu_ids),
                    scratch_free_bytes=self.means.folders.free_bytes(),
                    engines={name: dataclasses.asdict(found) for name, found in self._engines.items()},
                    machine=self.machine.now(),
                    certificate=self.front.certificate if self.front else None,
                )
                self._note_loads(work, work.deployments.renew(self.host, lease_s=self.lease.lease_s))
            work.hosts.lock(self.host)
            work.engine_holds.settle(self.host, self._outlived(work.deployments.held(self.host)))
            draining = work.hosts.is_draining(self.host)
            places = Places(work, self.host, self.gpu_ids)
            gone_to_sleep = places.settle_sleep(self.services, now_s, draining=draining)
            gpu_bytes = smallest_gpu_bytes(self.machine.now().gpus)
            terms = ClaimTerms(frozenset(self._engines), gpu_bytes, self.lease.lease_s)
            if draining:
                work.deployments.offer(self.host)
            else:
                places.claim(terms)
            self._share_moves.settle(work, terms, now_s, draining=draining)
            places.give_gpus()
            rows = work.deployments.held(self.host)
            moving = set(work.deployments.moving(self.host))
            self._handed_over, self._moving = set(self._moving) - moving | gone_to_sleep, moving
            versions = (version for row in rows for version in (row.model_version, *row.adapters))
            served = {version.id: version for version in versions if version is not None}
            self._files = {key: self._files.get(key) or work.blobs.files_of(row) for key, row in served.items()}
            self._bases = {row.id: base for row in rows if (base := _base(work, row)) is not None}
        if now_s - self._renewed_at_s >= self.lease.heartbeat_s:
            self._renewed_at_s = now_s
        if self._database_away:
            log.info("the database is back")
            self._database_away = False
        return rows

    @contextlib.contextmanager
    def _counting_tokens(self) -> Iterator[UnitOfWork]:
        """A transaction that also counts what engines have told of; until it has committed that stays to be counted.

        After a commit whose answer is lost on the way it is counted twice.
        """
        counted = Counter({key: count for key, count in self.means.tokens.items() if count})
        with self.database.unit_of_work() as work:
            for (event, task), count in counted.items():
                work.tallies.add(event, kind=task, count=count)
            yield work
        self.means.tokens.subtract(counted)

    def _note_loads(self, work: UnitOfWork, rows: Iterable[DeploymentRow]) -> None:
        for row in rows:
            load = self.services[row.id].load() if row.id in self.services else None
            shown = load._asdict() if load else None
            if row.load != shown:
                work.deployments.note_load(row.id, self.host, shown)

    def _outlived(self, rows: Iterable[DeploymentRow]) -> list[UUID]:
        """Deployments of which engines still run that are wanted no more, or with less."""
        generations = {row.id: row.generation for row in rows if row.wanted}
        return [
            deployment_id
            for deployment_id, service in self.services.items()
            if not service.uses_only(generations.get(deployment_id))
        ]

    def _adopt(self, now_s: float) -> None:
        wanted = {row.id: row for row in self._rows if row.wanted and len(row.gpu_ids) == row.gpus}
        for deployment_id, row in wanted.items():
            service = self.services.get(deployment_id)
            if service is None:
                self.services[deployment_id] = Service(self.means, Wanted.of(row, self._files, self._bases.get(row.id)))
            elif not service.ending and service.wanted.generation != row.generation:
                service.want(Wanted.of(row, self._files, self._bases.get(row.id)), now_s)
            # else: wanted again while it is being stopped; a new one follows when it is gone.
        held = {row.id for row in self._rows if row.wanted}.union(self._moving)
        for deployment_id, service in self.services.items():
            if deployment_id not in held and not service.ending:
                service.end(now_s, linger_s=LINGER_S if deployment_id in self._handed_over else 0.0)

    def _report(self) -> None:
        """Writes what differs from what the database shows."""
        news = []
        for row in self._rows:
            service = self.services.get(row.id)
            if service is None or not row.wanted or service.wanted.generation != row.generation:
                continue
            observed = self._shown(service.observed())
            if observed != Observed.shown_by(row):
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
                    endpoint_model=observed.endpoint_model,
                )
        # Not after every tick: the row as read now stands for what was written.
        self._looked_at_s = float("-inf")

    def _shown(self, observed: Observed) -> Observed:
        """The same, with the endpoint as other machines reach it."""
        if self.front is None or observed.endpoint is None:
            return observed
        return replace(observed, endpoint=self.front.endpoint(observed.endpoint))

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
        """Thins out the folders when a model has come out of use: at the end of a deployment, and after a switch."""
        in_use = {name for service in self.services.values() for name in service.cached()}
        if not self._in_use <= in_use:
            self.means.folders.prune(in_use)
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
    if version is None:
        return None
    origin = Manifest.model_validate(version.manifest).base if version.manifest.get("base") else None
    return None if origin is None else find_base(work, (row.owner_id, version.model.owner_id), origin)
