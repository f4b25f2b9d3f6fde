"""The connection to PostgreSQL, and the only place that commits.

    with database.unit_of_work() as work:
        work.jobs.transition(...)

The block is one transaction: it commits at the end, and rolls back when an exception leaves it. Rows stay readable
afterwards. No network call (object store, Redis, HTTP) may happen inside the block: it would hold locks meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import psycopg
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker

from storage.connections import PATIENCE, SERVER_PATIENCE, Listener, connect
from storage.database_errors import DatabaseFull, DatabaseUnavailable, OwnerGone, SchemaMismatch
from storage.leadership import Leadership
from storage.repositories.deliveries import DeliveryRepository
from storage.repositories.hosts import HostRepository
from storage.repositories.jobs.attempts import AttemptRepository
from storage.repositories.jobs.checkpoints import CheckpointRepository
from storage.repositories.jobs.decisions import DecisionRepository
from storage.repositories.jobs.events import EventRepository
from storage.repositories.jobs.jobs import JobRepository
from storage.repositories.jobs.leader import LeaderRepository
from storage.repositories.jobs.pipelines import PipelineRepository
from storage.repositories.jobs.queue import QueueRepository
from storage.repositories.jobs.schedules import ScheduleRepository
from storage.repositories.jobs.sweeps import SweepRepository
from storage.repositories.outbox import OutboxRepository
from storage.repositories.owners import OwnerRepository
from storage.repositories.people.handover import HandoverRepository
from storage.repositories.people.hub_tokens import HubTokenRepository
from storage.repositories.people.users import UserRepository
from storage.repositories.registry.aliases import AliasRepository
from storage.repositories.registry.blobs import BlobRepository
from storage.repositories.registry.catalogue import CatalogueRepository
from storage.repositories.registry.datasets import DatasetRepository
from storage.repositories.registry.garbage import GarbageRepository
from storage.repositories.registry.hub import HubRepository
from storage.repositories.registry.hub_pushes import HubPushRepository
from storage.repositories.registry.models import ModelRepository
from storage.repositories.registry.removal import RemovalRepository
from storage.repositories.registry.stored import StoredRepository
from storage.repositories.registry.uploads import UploadRepository
from storage.repositories.serving.answers import AnswerRepository
from storage.repositories.serving.batches import BatchRepository
from storage.repositories.serving.candidates import CandidateRepository
from storage.repositories.serving.deployments import DeploymentRepository
from storage.repositories.serving.engine_holds import EngineHoldRepository
from storage.repositories.serving.served_adapters import ServedAdapterRepository
from storage.repositories.serving.share_moves import ShareMoveRepository
from storage.repositories.serving.sleep import SleepRepository
from storage.repositories.tallies import TallyRepository
from storage.repositories.webhooks import WebhookRepository
from storage.schema import check_schema

__all__ = ["Database", "DatabaseFull", "DatabaseUnavailable", "Listener", "SchemaMismatch", "UnitOfWork"]

log = logging.getLogger(__name__)

#: PostgreSQL's channel on which a committed outbox row makes itself heard.
OUTBOX_CHANNEL = "eigenwerk_outbox"
#: What the server allows a transaction, in milliseconds: a frozen client must not keep a job locked against the reaper.
_LIMITS = "-c idle_in_transaction_session_timeout=30000 -c statement_timeout=30000"
#: Seconds after which a connection is made anew, and with it looked again whether the schema is still ours.
_CONNECTION_AGE_MAX_S = 300


@dataclass(frozen=True)
class UnitOfWork:
    """The repositories of one transaction."""

    session: Session

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What is raised within takes back what was written within, and nothing else of the transaction."""
        with self.session.begin_nested():
            yield

    @cached_property
    def owners(self) -> OwnerRepository:
        return OwnerRepository(self.session)

    @cached_property
    def handover(self) -> HandoverRepository:
        return HandoverRepository(self.session, self.garbage, self.removal, self.blobs)

    @cached_property
    def answers(self) -> AnswerRepository:
        return AnswerRepository(self.session)

    @cached_property
    def batches(self) -> BatchRepository:
        return BatchRepository(self.session)

    @cached_property
    def served_adapters(self) -> ServedAdapterRepository:
        return ServedAdapterRepository(self.session)

    @cached_property
    def candidates(self) -> CandidateRepository:
        return CandidateRepository(self.session)

    @cached_property
    def users(self) -> UserRepository:
        return UserRepository(self.session)

    @cached_property
    def datasets(self) -> DatasetRepository:
        return DatasetRepository(self.session)

    @cached_property
    def models(self) -> ModelRepository:
        return ModelRepository(self.session, self.deliveries)

    @cached_property
    def catalogue(self) -> CatalogueRepository:
        return CatalogueRepository(self.session)

    @cached_property
    def aliases(self) -> AliasRepository:
        return AliasRepository(self.session, self.deliveries)

    @cached_property
    def hub(self) -> HubRepository:
        return HubRepository(self.session)

    @cached_property
    def hub_tokens(self) -> HubTokenRepository:
        return HubTokenRepository(self.session)

    @cached_property
    def hub_pushes(self) -> HubPushRepository:
        return HubPushRepository(self.session)

    @cached_property
    def jobs(self) -> JobRepository:
        return JobRepository(self.session, self.outbox, self.tallies, self.deliveries)

    @cached_property
    def tallies(self) -> TallyRepository:
        return TallyRepository(self.session)

    @cached_property
    def queue(self) -> QueueRepository:
        return QueueRepository(self.session)

    @cached_property
    def pipelines(self) -> PipelineRepository:
        return PipelineRepository(self.session, self.outbox)

    @cached_property
    def sweeps(self) -> SweepRepository:
        return SweepRepository(self.session, self.outbox)

    @cached_property
    def decisions(self) -> DecisionRepository:
        return DecisionRepository(self.session)

    @cached_property
    def events(self) -> EventRepository:
        return EventRepository(self.session)

    @cached_property
    def checkpoints(self) -> CheckpointRepository:
        return CheckpointRepository(self.session)

    @cached_property
    def attempts(self) -> AttemptRepository:
        return AttemptRepository(self.session)

    @cached_property
    def hosts(self) -> HostRepository:
        return HostRepository(self.session)

    @cached_property
    def deployments(self) -> DeploymentRepository:
        return DeploymentRepository(self.session, self.deliveries)

    @cached_property
    def sleep(self) -> SleepRepository:
        return SleepRepository(self.session)

    @cached_property
    def share_moves(self) -> ShareMoveRepository:
        return ShareMoveRepository(self.session)

    @cached_property
    def engine_holds(self) -> EngineHoldRepository:
        return EngineHoldRepository(self.session)

    @cached_property
    def garbage(self) -> GarbageRepository:
        return GarbageRepository(self.session)

    @cached_property
    def blobs(self) -> BlobRepository:
        return BlobRepository(self.session, self.garbage)

    @cached_property
    def removal(self) -> RemovalRepository:
        return RemovalRepository(self.session, self.garbage, self.blobs)

    @cached_property
    def uploads(self) -> UploadRepository:
        return UploadRepository(self.session, self.garbage)

    @cached_property
    def leader(self) -> LeaderRepository:
        return LeaderRepository(self.session)

    @cached_property
    def stored(self) -> StoredRepository:
        return StoredRepository(self.session)

    @cached_property
    def outbox(self) -> OutboxRepository:
        return OutboxRepository(self.session)

    @cached_property
    def schedules(self) -> ScheduleRepository:
        return ScheduleRepository(self.session)

    @cached_property
    def webhooks(self) -> WebhookRepository:
        return WebhookRepository(self.session)

    @cached_property
    def deliveries(self) -> DeliveryRepository:
        return DeliveryRepository(self.session, self.outbox)


class Database:
    """A pool of connections to one PostgreSQL database. Safe to share between threads, not between processes.

    A transaction that waits for a lock for `lock_timeout_s` seconds ends with DatabaseUnavailable.
    """

    def __init__(
        self, url: str, *, connections_max: int = 20, application: str = "eigenwerk", lock_timeout_s: float = 10.0
    ) -> None:
        options = f"{_LIMITS} -c lock_timeout={round(lock_timeout_s * 1000)} {SERVER_PATIENCE}"
        self._url = url
        self._engine = create_engine(
            url,
            pool_size=min(5, connections_max),
            max_overflow=max(0, connections_max - 5),
            pool_timeout=10,
            # One round trip per checkout, 0.1 ms on a socket: a restarted server is noticed before the work starts.
            pool_pre_ping=True,
            pool_recycle=_CONNECTION_AGE_MAX_S,
            connect_args={**PATIENCE, "application_name": application, "options": options},
        )
        event.listen(self._engine, "connect", _refuse_foreign_schema)
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        without_transaction = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._readings = sessionmaker(without_transaction, expire_on_commit=False)
        event.listen(self._readings, "do_orm_execute", _refuse_writing)
        event.listen(self._readings, "before_flush", _refuse_flush)

    @contextmanager
    def unit_of_work(self) -> Iterator[UnitOfWork]:
        """One transaction.

        Raises DatabaseUnavailable when the server can't be reached or goes away, and OwnerGone when somebody's thing is
        made whose owner was deleted meanwhile.
        """
        with _session(self._sessions) as session:
            yield UnitOfWork(session)
            session.commit()

    @contextmanager
    def reading(self) -> Iterator[UnitOfWork]:
        """For looks at what is committed, each query for itself, on the way of every request: without a transaction a
        query takes two round trips, not four. Raises DatabaseUnavailable, and RuntimeError when the block writes."""
        with _session(self._readings) as session:
            yield UnitOfWork(session)

    def check(self) -> None:
        """Raises DatabaseUnavailable unless the server answers."""
        with self.unit_of_work() as work:
            work.session.execute(text("SELECT 1"))

    def verify_schema(self) -> None:
        """Raises SchemaMismatch when the database is of another version. A server that is away is no mismatch yet:
        every connection is checked when it is made."""
        try:
            self.check()
        except SchemaMismatch:
            raise
        except DatabaseUnavailable as error:
            log.warning("the schema is checked when the database answers: %s", error)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def listen(self) -> Iterator[Listener]:
        """A connection of its own that hears of committed outbox rows."""
        with connect(self._url) as connection:
            connection.execute(f"LISTEN {OUTBOX_CHANNEL}")
            yield Listener(connection)

    @contextmanager
    def leadership(self, name: str, *, silent_s: float) -> Iterator[Leadership]:
        """A connection of its own that can lead; see `storage.leadership`."""
        with connect(self._url) as connection:
            yield Leadership(connection, name, silent_s)


@contextmanager
def _session(make: sessionmaker[Session]) -> Iterator[Session]:
    """Undoes what was not committed; errors of the server become ours."""
    session = make()
    try:
        yield session
    except PoolTimeout as error:
        session.rollback()
        raise DatabaseUnavailable("All connections to PostgreSQL are in use.") from error
    except DBAPIError as error:
        session.rollback()
        if isinstance(error.orig, psycopg.errors.DiskFull):
            raise DatabaseFull(f"PostgreSQL's disk is full: {str(error.orig).strip()}") from error
        if error.connection_invalidated or isinstance(error.orig, psycopg.OperationalError):
            raise DatabaseUnavailable(f"PostgreSQL does not answer: {str(error.orig).strip()}") from error
        if isinstance(error.orig, psycopg.errors.ForeignKeyViolation) and _names_an_owner(error.orig):
            raise OwnerGone("The user of this token was deleted.") from error
        raise
    except BaseException:
        session.rollback()
        raise
    finally:
        session.close()


def _refuse_writing(state: ORMExecuteState) -> None:
    if not state.is_select:
        raise RuntimeError("Only a unit of work may change anything.")


def _refuse_flush(session: Session, *_: object) -> None:
    if session.new or session.dirty or session.deleted:
        raise RuntimeError("Only a unit of work may change anything.")


def _refuse_foreign_schema(connection: psycopg.Connection, _record: object) -> None:
    """The pool forgets a connection whose check fails, be it that the server went away, and never closes it."""
    try:
        check_schema(connection)
        connection.rollback()
    except BaseException:
        connection.close()
        raise


def _names_an_owner(error: psycopg.errors.ForeignKeyViolation) -> bool:
    return str(error.diag.constraint_name).endswith("_owner_id_owners")
