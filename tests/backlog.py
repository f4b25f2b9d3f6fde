"""Thousands of jobs at once, written by one statement: for plans and figures that only show with many rows."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import text

from storage.database import Database

_COPY = text("""
INSERT INTO jobs (id, owner_id, kind, name, spec, inputs, priority, slots, memory_bytes, gpus, max_runtime_s,
    request_sha256, state, transition_seq, fence, crash_count, finished_at)
SELECT gen_random_uuid(), (CAST(:owners AS uuid[]))[1 + n % :owner_count], kind, name, spec, inputs, n / 20 % 3,
    slots, memory_bytes * (1 + n / 60 % 4), :gpus, max_runtime_s, request_sha256, CAST(:state AS text), 1, 0, 0,
    CASE WHEN CAST(:state AS text) = 'succeeded' THEN clock_timestamp() END
FROM jobs CROSS JOIN generate_series(1, :count) AS n WHERE jobs.id = :like
""")


def add_jobs(database: Database, like: UUID, count: int, *, state: str = "queued", gpus: int = 0) -> None:
    """Copies of the job `like`, in 240 groups where there are enough: 20 owners, 3 priorities, 4 sizes."""
    with database.unit_of_work() as work:
        owners = [work.users.ensure(f"owner-{number}").id for number in range(20)]
        values = {"owners": owners, "owner_count": len(owners), "count": count, "state": state, "gpus": gpus}
        work.session.execute(_COPY, {**values, "like": like})
    with database.unit_of_work() as work:
        work.session.execute(text("ANALYZE jobs"))
