"""What is read of many jobs at once: the queue, what hosts hold, and figures. Nothing here writes.

Every query is answered from an index that knows only the jobs it is about; `tests/storage/test_queue.py` reads the
plans. Conditions are literal where an index has them: a parameter proves nothing to a plan that is made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, func, literal_column, select, text
from sqlalchemy.orm import Session

from scheduling.decisions import Resources
from storage.tables import DatasetVersionRow, JobRow, ModelVersionRow

#: So many earlier jobs tell how fast the next one will be; so many are looked at, for some kinds tell no speed.
_SPEEDS_MAX, _SPEEDS_LOOKED_AT = 20, 100
#: A look at the queue reads so many groups of jobs that agree in `storage.tables.jobs.HEAD`, and about so many jobs of
#: those that may fit, at most. Where there are more groups, so many jobs of the very front are read whatever their
#: groups, so that nobody waits unseen for ever.
_GROUPS_MAX, _ROWS_MAX, _FRONT = 1000, 1000, 200

_QUEUED: ColumnElement[bool] = literal_column("jobs.state = 'queued'")
_SUCCEEDED: ColumnElement[bool] = literal_column("jobs.state = 'succeeded'")

#: The first few of each group. Groups are found by one probe of `ix_jobs_heads` each, highest boost and priority first,
#: however many jobs a group has. Where none of a group fits any host, its first one tells all that a decision may need.
HEADS = text("""
WITH RECURSIVE walk AS (
    (SELECT boost, priority, owner_id, gpus, slots, memory_bytes, max_runtime_s FROM jobs WHERE state = 'queued'
     ORDER BY boost DESC, priority DESC, owner_id DESC, gpus DESC, slots DESC, memory_bytes DESC, max_runtime_s DESC
     LIMIT 1)
    UNION ALL
    SELECT following.* FROM walk CROSS JOIN LATERAL (
        SELECT boost, priority, owner_id, gpus, slots, memory_bytes, max_runtime_s FROM jobs
        WHERE state = 'queued' AND (boost, priority, owner_id, gpus, slots, memory_bytes, max_runtime_s)
            < (walk.boost, walk.priority, walk.owner_id, walk.gpus, walk.slots, walk.memory_bytes, walk.max_runtime_s)
        ORDER BY boost DESC, priority DESC, owner_id DESC, gpus DESC, slots DESC, memory_bytes DESC, max_runtime_s DESC
        LIMIT 1
    ) AS following
), groups AS MATERIALIZED (
    SELECT walk.*, EXISTS (
        SELECT FROM unnest(CAST(:slots AS int[]), CAST(:memory_bytes AS bigint[]), CAST(:gpus AS int[]))
            AS room (slots, memory_bytes, gpus)
        WHERE walk.slots <= room.slots AND walk.memory_bytes <= room.memory_bytes AND walk.gpus <= room.gpus
    ) AS fits FROM walk LIMIT :groups_max
), depth AS MATERIALIZED (
    SELECT least(:starts_max, greatest(1, :rows_max / greatest(1, count(*)))) AS rows FROM groups WHERE fits
), heads AS MATERIALIZED (
    SELECT first.id, first.submitted_order, boost, priority, owner_id, gpus, slots, memory_bytes, max_runtime_s,
        first.number = (SELECT rows FROM depth) AS followed
    FROM groups CROSS JOIN LATERAL (
        SELECT id, submitted_order, row_number() OVER (ORDER BY submitted_order) AS number FROM jobs
        WHERE state = 'queued' AND boost = groups.boost AND priority = groups.priority
            AND owner_id = groups.owner_id AND gpus = groups.gpus
            AND slots = groups.slots AND memory_bytes = groups.memory_bytes AND max_runtime_s = groups.max_runtime_s
            AND (not_before IS NULL OR not_before <= statement_timestamp())
            AND (avoid_until IS NULL OR avoid_until <= statement_timestamp())
        ORDER BY submitted_order LIMIT CASE WHEN groups.fits THEN (SELECT rows FROM depth) ELSE 1 END
    ) AS first
), front AS (
    SELECT id, submitted_order, boost, priority, owner_id, gpus, slots, memory_bytes, max_runtime_s, false AS followed,
        CASE WHEN avoid_until > statement_timestamp() THEN avoid_hosts ELSE '{}' END AS avoided
    FROM jobs WHERE (SELECT count(*) FROM groups) = :groups_max
        AND state = 'queued' AND (not_before IS NULL OR not_before <= statement_timestamp())
    ORDER BY boost DESC, submitted_order LIMIT :front
), avoiding AS (
    SELECT id, submitted_order, boost, priority, owner_id, gpus, slots, memory_bytes, max_runtime_s, false, avoid_hosts
    FROM jobs WHERE state = 'queued' AND (not_before IS NULL OR not_before <= statement_timestamp())
        AND avoid_until IS NOT NULL AND avoid_until > statement_timestamp()
    ORDER BY boost DESC, submitted_order LIMIT :front
), further AS (
    SELECT * FROM front UNION SELECT * FROM avoiding
)
SELECT heads.*, CAST('{}' AS text[]) FROM heads
UNION ALL
SELECT * FROM further WHERE NOT EXISTS (SELECT FROM heads WHERE heads.id = further.id)
""").bindparams(groups_max=_GROUPS_MAX, rows_max=_ROWS_MAX, front=_FRONT)


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """What a decision needs of a queued job. `followed`: more of its group may wait behind it, unread."""

    id: UUID
    submitted_order: int
    boost: int
    priority: int
    owner_id: UUID
    gpus: int
    slots: int
    memory_bytes: int
    max_runtime_s: float
    followed: bool
    #: Hosts that it keeps away from at the moment. Such jobs are no heads: those behind them may go elsewhere.
    avoided_hosts: list[str]


@dataclass(frozen=True, slots=True)
class Place:
    """What a job takes of the host that holds it, and for how many seconds it has by now."""

    host: str
    slots: int
    memory_bytes: int
    gpus: int
    max_runtime_s: float
    held_s: float


class QueueRepository:
    """The jobs table, as the scheduler, hosts and operators look at it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def heads(self, rooms: Sequence[Resources]) -> list[QueuedJob]:
        """Queued jobs that may start now: the first of each owner, priority and shape; some more where one has room.

        `rooms`: what is free on each host. Where there are too many groups the lowest priorities are left out, but
        never the first jobs of the queue.
        """
        free = {
            # Each start takes a slot at least.
            "starts_max": sum(room.slots for room in rooms),
            "slots": [room.slots for room in rooms],
            "memory_bytes": [room.memory_bytes for room in rooms],
            "gpus": [room.gpus for room in rooms],
        }
        return [QueuedJob(*row) for row in self._session.execute(HEADS, free)]

    def places(self, host: str | None = None) -> list[Place]:
        """What the jobs take that some host, or this one, holds."""
        # A scheduler of the version before, which may still run during an upgrade, writes no `assigned_at`.
        since = func.coalesce(JobRow.assigned_at, JobRow.started_at)
        held_s = func.extract("epoch", func.clock_timestamp() - since)
        query = select(JobRow.host, JobRow.slots, JobRow.memory_bytes, JobRow.gpus, JobRow.max_runtime_s, held_s)
        query = query.where(JobRow.host.is_not(None) if host is None else JobRow.host == host)
        rows = self._session.execute(query.order_by(JobRow.submitted_order))
        return [Place(str(row[0]), *row[1:5], float(row[5])) for row in rows]

    def active(self, host: str) -> Sequence[JobRow]:
        """Jobs that the host holds, oldest first."""
        return self._session.scalars(select(JobRow).where(JobRow.host == host).order_by(JobRow.submitted_order)).all()

    def count_by_state(self) -> dict[str, int]:
        rows = self._session.execute(select(JobRow.state, func.count()).group_by(JobRow.state))
        return {state: count for state, count in rows}

    def oldest_queued_age_s(self) -> float:
        """Seconds since the job that waits longest came into the queue, for the last time; 0 when none waits."""
        age = func.extract("epoch", func.clock_timestamp() - func.min(JobRow.queued_at))
        return float(self._session.scalar(select(age).where(_QUEUED)) or 0.0)

    def speeds(self, kind: str, model_digest: str | None, *, gpus: int) -> list[float]:
        """Operations per second that the newest finished jobs of this kind, base model and number of GPUs reached.

        A model of a hub has no digest: then jobs on any model count.
        """
        manifests = (ModelVersionRow.manifest, DatasetVersionRow.manifest)
        speed = func.coalesce(
            *(manifest["report"]["duration"]["operations_per_s"].as_float() for manifest in manifests)
        )
        finished = select(JobRow.id, JobRow.submitted_order).where(_SUCCEEDED, JobRow.kind == kind, JobRow.gpus == gpus)
        if model_digest is not None:
            digest: ColumnElement[str] = literal_column("(jobs.inputs #>> '{model,digest}')")
            finished = finished.where(digest == model_digest)
        newest = finished.order_by(JobRow.submitted_order.desc()).limit(_SPEEDS_LOOKED_AT).subquery()
        query = (
            select(speed)
            .select_from(newest)
            .outerjoin(ModelVersionRow, ModelVersionRow.job_id == newest.c.id)
            .outerjoin(DatasetVersionRow, DatasetVersionRow.job_id == newest.c.id)
            .where(speed > 0)
            .order_by(newest.c.submitted_order.desc())
            .limit(_SPEEDS_MAX)
        )
        return [float(value) for value in self._session.scalars(query)]
