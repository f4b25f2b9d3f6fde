"""Jobs. `JobRepository.transition` is the only writer of a job's state; everything else here calls it or reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.lifecycle import ACTIVE, LOSSES_MAX, REASONS, TERMINAL, JobState, Loss, Reason, may
from jobspecs.rights import Reach
from scheduling.back_off import back_off_s
from storage.repositories.deliveries import DeliveryRepository
from storage.repositories.outbox import OutboxRepository
from storage.repositories.owners import within
from storage.repositories.tallies import TallyRepository
from storage.tables import JobRow, JobTransitionRow

#: Seconds for which a job keeps away from a host that could not run it.
AVOIDED_S = 1800.0


class JobRepository:
    """The jobs and job_transitions tables."""

    def __init__(
        self, session: Session, outbox: OutboxRepository, tallies: TallyRepository, deliveries: DeliveryRepository
    ) -> None:
        self._session = session
        self._outbox = outbox
        self._tallies = tallies
        self._deliveries = deliveries

    def submit(
        self,
        owner_id: UUID,
        *,
        actor: str,
        spec: dict[str, Any],
        inputs: dict[str, Any],
        slots: int,
        memory_bytes: int,
        gpus: int,
        max_runtime_s: float,
        request_sha256: str,
        idempotency_key: str | None = None,
        warnings: Sequence[dict[str, Any]] = (),
        retry_of: UUID | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> tuple[JobRow, bool]:
        """Queues a job. With a known idempotency key the earlier job comes back, and False.

        The caller compares `request_sha256` of what comes back with its own.
        """
        values = {
            "owner_id": owner_id,
            "kind": spec["kind"],
            "name": spec["name"],
            "priority": spec["priority"],
            "spec": spec,
            "inputs": inputs,
            "warnings": list(warnings),
            "slots": slots,
            "memory_bytes": memory_bytes,
            "gpus": gpus,
            "max_runtime_s": max_runtime_s,
            "request_sha256": request_sha256,
            "idempotency_key": idempotency_key,
            "retry_of": retry_of,
            "notes": dict(notes or {}),
            "transition_seq": 1,
        }
        statement = insert(JobRow).values(values).on_conflict_do_nothing(index_elements=["owner_id", "idempotency_key"])
        job_id = self._session.scalars(statement.returning(JobRow.id)).one_or_none()
        if job_id is None:
            return self._by_key(owner_id, idempotency_key), False
        self._record(job_id, 1, None, JobState.queued, fence=0, actor=actor)
        self._tallies.add("job_submitted", kind=spec["kind"])
        self._outbox.add("schedule", {"job_id": str(job_id)})
        return self._session.get_one(JobRow, job_id), True

    def transition(
        self,
        job_id: UUID,
        target: JobState,
        *,
        actor: str,
        sources: Collection[JobState] | None = None,
        fence: int | None = None,
        reason: Reason | None = None,
        message: str | None = None,
        host: str | None = None,
        lease_s: float | None = None,
        loss: Loss | None = None,
        avoids_host: bool = False,
        not_before_s: float = 0.0,
    ) -> JobRow | None:
        """Moves the job to `target`, writes, counts and announces the transition; or returns None and changes nothing.

        None means that a guard failed: no such job, the table of transitions forbids it, its state is not one of
        `sources`, or its fence is not `fence`. Going to `assigned` raises the fence and needs `host` and `lease_s`.
        `loss` is counted; with `avoids_host` the job keeps away from its host for AVOIDED_S.
        """
        row = self._locked(job_id)
        if row is None or (fence is not None and row.fence != fence):
            return None
        source = JobState(row.state)
        if not may(source, target) or (sources is not None and source not in sources):
            return None
        now = self._session.scalars(select(func.clock_timestamp())).one()
        if target is JobState.assigned:
            if host is None or lease_s is None:
                raise ValueError("assigning a job needs a host and a lease")
            row.fence += 1
            row.host = host
            row.lease_until = self._from_now(lease_s)
            row.assigned_at, row.started_at = now, row.started_at or now
        if avoids_host and row.host is not None:
            row.avoid_hosts = sorted({*row.avoided_hosts, row.host})
            row.avoid_until = self._from_now(AVOIDED_S)
        if target not in ACTIVE:
            self._wake(row)
            row.host, row.lease_until, row.gpu_ids = None, None, []
            self._outbox.add("schedule", {"job_id": str(job_id)})
            row.queued_at = now if target is JobState.queued else row.queued_at
            row.finished_at = now if target in TERMINAL else None
        if target is JobState.succeeded and row.fence == 1:
            # An only attempt that brought the result left nothing else.
            row.swept_fence = 1
        row.not_before = self._from_now(not_before_s) if not_before_s else None
        row.crash_count += loss is Loss.crash
        row.host_losses += loss is Loss.host
        row.state = target.value
        row.reason = reason.value if reason else None
        row.message = message
        row.transition_seq += 1
        self._record(row.id, row.transition_seq, source, target, row.fence, actor, reason, message)
        self._tallies.step(row, source, target, reason)
        if target in (JobState.assigned, JobState.cancelling, JobState.preempting, JobState.pausing):
            self._wake(row)
        self._session.flush()
        self._session.refresh(row)
        self._deliveries.tell_of_job(row)
        return row

    def assign(self, job_id: UUID, host: str, *, lease_s: float, actor: str = "scheduler") -> JobRow | None:
        """Gives a queued job to a host. Of many that try at once, one gets the row."""
        return self.transition(job_id, JobState.assigned, actor=actor, host=host, lease_s=lease_s)

    def boost(self, job_id: UUID, boost: int) -> JobRow | None:
        """Puts the job before everybody's with a lower boost, now and when it comes into the queue again.

        None when it has ended.
        """
        row = self._locked(job_id)
        if row is None or JobState(row.state) in TERMINAL:
            return None
        row.boost = boost
        self._outbox.add("schedule", {"job_id": str(job_id)})
        self._session.flush()
        return row

    def request_cancel(self, job_id: UUID, *, actor: str) -> JobRow | None:
        """Cancels a queued or paused job at once and asks the host of an active one. None when it has already ended."""
        reason, idle = Reason.cancelled_by_user, {JobState.queued, JobState.paused}
        done = self.transition(job_id, JobState.cancelled, actor=actor, sources=idle, reason=reason)
        if done is not None:
            return done
        row = self._locked(job_id)
        if row is not None and row.state == JobState.cancelling:
            return row
        return self.transition(job_id, JobState.cancelling, actor=actor, reason=reason)

    def request_pause(self, job_id: UUID, *, actor: str) -> JobRow | None:
        """Pauses a queued job at once and asks the host of an active one. None when nothing can be paused any more."""
        reason = Reason.paused_by_user
        return self.transition(
            job_id, JobState.paused, actor=actor, sources={JobState.queued}, reason=reason
        ) or self.transition(job_id, JobState.pausing, actor=actor, reason=reason)

    def resume(self, job_id: UUID, *, actor: str) -> JobRow | None:
        """Puts a paused job into the queue; one that is `pausing` goes there as soon as its host has confirmed.

        None when it is neither.
        """
        return self.transition(job_id, JobState.queued, actor=actor, sources={JobState.paused}) or self.transition(
            job_id, JobState.preempting, actor=actor, sources={JobState.pausing}
        )

    def end_attempt(
        self, job_id: UUID, *, reason: Reason, message: str, actor: str, fence: int | None = None
    ) -> JobRow | None:
        """Ends an attempt without a result: cancelled, paused, queued again or failed, as state and reason demand."""
        row = self._locked(job_id)
        if row is None or JobState(row.state) not in ACTIVE or (fence is not None and row.fence != fence):
            return None
        if row.state == JobState.cancelling:
            return self.transition(
                job_id, JobState.cancelled, actor=actor, fence=fence, reason=Reason.cancelled_by_user
            )
        if row.state == JobState.pausing and REASONS[reason].retried:
            return self.transition(job_id, JobState.paused, actor=actor, fence=fence, reason=Reason.paused_by_user)
        if row.state == JobState.preempting and REASONS[reason].retried:
            reason = Reason.preempted
        rule = REASONS[reason]
        if not rule.retried:
            return self.transition(job_id, JobState.failed, actor=actor, fence=fence, reason=reason, message=message)
        losses = (row.crash_count if rule.counts_as is Loss.crash else row.host_losses) + 1
        if rule.counts_as is not None and losses >= LOSSES_MAX[rule.counts_as]:
            end, loss = rule.ends_as, rule.counts_as
            return self.transition(
                job_id, JobState.failed, actor=actor, fence=fence, reason=end, message=message, loss=loss
            )
        return self.transition(
            job_id,
            JobState.queued,
            actor=actor,
            fence=fence,
            reason=reason,
            message=message,
            loss=rule.counts_as,
            avoids_host=rule.avoids_host,
            not_before_s=back_off_s(reason, losses),
        )

    def reap(self, limit: int = 100) -> list[JobRow]:
        """Ends the attempts whose lease has run out by the database's clock. Any number of reapers may run."""
        expired = self._session.scalars(
            select(JobRow.id)
            .where(JobRow.lease_until < func.statement_timestamp())
            .limit(limit)
            .with_for_update(of=JobRow, skip_locked=True)
        ).all()
        ended = (
            self.end_attempt(
                job_id, reason=Reason.lease_expired, message="The worker did not renew its lease.", actor="reaper"
            )
            for job_id in expired
        )
        rows = [row for row in ended if row is not None]
        for row in rows:
            # Apart from the reason: what many lost hosts end is `hosts_lost`.
            self._tallies.add("lease_expired", kind=row.kind)
        return rows

    def hold_gpus(self, job_id: UUID, fence: int, gpu_ids: Sequence[str]) -> None:
        """Notes by name which GPUs the attempt works on. The caller holds the host's lock."""
        self._session.execute(
            update(JobRow).where(JobRow.id == job_id, JobRow.fence == fence).values(gpu_ids=list(gpu_ids))
        )

    def renew_lease(self, job_id: UUID, fence: int, *, lease_s: float) -> JobState | None:
        """Renews the lease of an attempt and tells the job's state. None: the attempt is fenced off and must stop."""
        state = self._session.scalars(
            update(JobRow)
            .where(JobRow.id == job_id, JobRow.fence == fence, JobRow.state.in_([str(state) for state in ACTIVE]))
            .values(lease_until=self._from_now(lease_s))
            .returning(JobRow.state)
        ).one_or_none()
        return None if state is None else JobState(state)

    def get(self, job_id: UUID) -> JobRow | None:
        """Anybody's job: for the platform's own processes only."""
        return self._session.get(JobRow, job_id)

    def find(self, reach: Reach, job_id: UUID) -> JobRow | None:
        """The job, when it is in the reach."""
        query = select(JobRow).where(JobRow.id == job_id, within(reach, JobRow.owner_id))
        return self._session.scalars(query).one_or_none()

    def find_by_key(self, owner_id: UUID, idempotency_key: str) -> JobRow | None:
        """The owner's job that was submitted with this key."""
        query = select(JobRow).where(
            within(Reach.of(owner_id), JobRow.owner_id), JobRow.idempotency_key == idempotency_key
        )
        return self._session.scalars(query).one_or_none()

    def list(
        self,
        reach: Reach,
        *,
        states: Sequence[str] = (),
        kind: str | None = None,
        notes: Mapping[str, str] | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> Sequence[JobRow]:
        """Jobs in the reach, newest first. `before`: only those with a smaller `submitted_order` (the next page).

        `notes`: only those with all of these.
        """
        query = select(JobRow).where(within(reach, JobRow.owner_id))
        if kind is not None:
            query = query.where(JobRow.kind == kind)
        if notes:
            query = query.where(JobRow.notes.contains(dict(notes)))
        if states:
            query = query.where(JobRow.state.in_(states))
        if before is not None:
            query = query.where(JobRow.submitted_order < before)
        return self._session.scalars(query.order_by(JobRow.submitted_order.desc()).limit(limit)).all()

    def retries_of(self, job_id: UUID) -> Sequence[UUID]:
        """The jobs that retry this one, oldest first."""
        query = select(JobRow.id).where(JobRow.retry_of == job_id)
        return self._session.scalars(query.order_by(JobRow.submitted_order)).all()

    def transitions_after(self, job_id: UUID, seq: int = 0) -> Sequence[JobTransitionRow]:
        return self._session.scalars(
            select(JobTransitionRow)
            .where(JobTransitionRow.job_id == job_id, JobTransitionRow.seq > seq)
            .order_by(JobTransitionRow.seq)
        ).all()

    def _by_key(self, owner_id: UUID, key: str | None) -> JobRow:
        return self._session.scalars(
            select(JobRow).where(within(Reach.of(owner_id), JobRow.owner_id), JobRow.idempotency_key == key)
        ).one()

    def _locked(self, job_id: UUID) -> JobRow | None:
        # populate_existing: the row may have been read before the lock was got, and be stale by now.
        return self._session.scalars(
            select(JobRow)
            .where(JobRow.id == job_id)
            .with_for_update(of=JobRow)
            .execution_options(populate_existing=True)
        ).one_or_none()

    def _from_now(self, seconds: float) -> Any:
        return func.clock_timestamp() + text("make_interval(secs => :seconds)").bindparams(seconds=seconds)

    def _wake(self, row: JobRow) -> None:
        if row.host is not None:
            self._outbox.add("wake", {"host": row.host, "job_id": str(row.id), "fence": row.fence})

    def _record(
        self,
        job_id: UUID,
        seq: int,
        source: JobState | None,
        target: JobState,
        fence: int,
        actor: str,
        reason: Reason | None = None,
        message: str | None = None,
    ) -> None:
        self._session.add(
            JobTransitionRow(
                job_id=job_id,
                seq=seq,
                source=source.value if source else None,
                state=target.value,
                reason=reason.value if reason else None,
                message=message,
                fence=fence,
                actor=actor,
            )
        )
