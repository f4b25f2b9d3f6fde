"""Schedules under schedulers that are killed, with a Redis that forgets."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import redis
from sqlalchemy import text

from jobspecs.frozen import FrozenHubModel, FrozenInputs
from jobspecs.pipelines.frozen import StepInputs
from jobspecs.rights import Reach
from storage.repositories.jobs.pipelines import NewStep
from tests.workers.harness import Harness

SPEC = {"kind": "import-model", "name": "copy", "model": "hub:org/name"}


@pytest.mark.timeout(180)
def test_each_time_runs_once_though_schedulers_are_killed_and_redis_forgets(harness: Harness, redis_url: str) -> None:
    inputs = FrozenInputs(model=FrozenHubModel(repository="org/name", revision="a" * 40))
    step = NewStep("copy", "import-model", SPEC, None, (), StepInputs(frozen=inputs))
    with harness.database.unit_of_work() as work:
        owner_id = work.users.ensure("tester").id
        now = work.schedules.now()
        given = {"cron": "* * * * *", "time_zone": "UTC", "missed": "once", "document": SPEC, "steps": [step]}
        row = work.schedules.add(owner_id, "minutely", next_at=now, **given)  # type: ignore[arg-type]
    assert row is not None
    schedule_id, reach = row.id, Reach.of(owner_id)

    def runs() -> int:
        with harness.database.unit_of_work() as work:
            return len(work.schedules.runs(schedule_id, limit=100))

    def come() -> None:
        """A time of long ago comes again, so that the test need not wait for the next minute."""
        with harness.database.unit_of_work() as work:
            work.session.execute(text("UPDATE schedule_runs SET due_at = due_at - interval '1 day'"))
            work.session.execute(
                text("UPDATE schedules SET next_at = :at"), {"at": _floor(work.schedules.now()) - timedelta(minutes=1)}
            )

    schedulers = [harness.start_scheduler(), harness.start_scheduler()]
    for number in range(1, 4):
        harness.until(lambda wanted=number: runs() >= wanted, 60, "the run")  # type: ignore[misc]
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        if number < 3:
            schedulers.pop(0).kill()
            schedulers.append(harness.start_scheduler())
            come()
    with harness.database.unit_of_work() as work:
        jobs = work.jobs.list(reach)
        noted = [run.job_id for run in work.schedules.runs(schedule_id, limit=100)]
    assert {job.id for job in jobs} == set(noted)
    assert len(jobs) == len(noted)


def _floor(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)
