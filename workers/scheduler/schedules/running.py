"""Runs the times of schedules that have come.

One transaction locks the schedule, decides, queues what is due, notes each time and when to look again. A scheduler
that dies leaves all of it or nothing; of two, one gets the row.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from jobspecs.frozen import ScheduleOrigin
from jobspecs.pipelines.reading import parse_pipeline
from jobspecs.pipelines.steps import StepSpec
from jobspecs.problems import InvalidInput, Problem
from jobspecs.registry import SPECS, parse_spec
from jobspecs.rights import Reach
from scheduling.cron import Cron
from scheduling.schedules import Missed, due
from storage.database import Database, DatabaseUnavailable, UnitOfWork
from storage.repositories.jobs.pipelines import NewStep
from storage.repositories.jobs.schedules import steps_of
from storage.tables import ScheduleRow
from workers.scheduler.schedules.refreezing import refrozen

log = logging.getLogger(__name__)

#: Schedules of one look at most: the leader must show that it lives.
SCHEDULES_MAX = 50


def run_due(database: Database, schedule_ids: Sequence[UUID]) -> None:
    """What is wrong with one schedule is logged and keeps no other from running."""
    for schedule_id in schedule_ids:
        try:
            with database.unit_of_work() as work:
                row = work.schedules.lock_due(schedule_id)
                if row is not None:
                    _run(work, row, work.schedules.now())
        except DatabaseUnavailable:
            raise
        except Exception:
            log.exception("schedule %s can't run; it is tried again", schedule_id)


def _run(work: UnitOfWork, row: ScheduleRow, now: datetime) -> None:
    found = due(Cron.parse(row.cron, row.time_zone), row.next_at, now, Missed(row.missed))
    for time in found.times:
        try:
            with work.savepoint():
                _queue(work, row, time)
        except InvalidInput as error:
            log.warning("schedule %s (%s) queued nothing for %s: %s", row.id, row.name, time, error)
            work.schedules.add_run(row, time, refused=str(error)[:2000])
    work.schedules.go_on(row, found.next_at)


def _queue(work: UnitOfWork, row: ScheduleRow, time: datetime) -> None:
    """Raises InvalidInput when what it reads is gone, or does not do any more."""
    reach = Reach.of(row.owner_id).with_shared
    specs = _specs_of(row)
    origin = ScheduleOrigin(id=row.id, name=row.name, due_at=time)
    steps = [_as_of_now(work, reach, step, specs[step.name], origin) for step in steps_of(row)]
    request_sha256 = hashlib.sha256(json.dumps(row.document, sort_keys=True).encode()).hexdigest()
    if row.document["kind"] in SPECS:
        job_id = _submit_job(work, row, steps[0], request_sha256)
        work.schedules.add_run(row, time, job_id=job_id)
        log.info("schedule %s (%s): job %s for %s", row.id, row.name, job_id, time)
        return
    pipeline, _ = work.pipelines.submit(
        row.owner_id, row.document["name"], row.document, steps, request_sha256=request_sha256
    )
    work.schedules.add_run(row, time, pipeline_id=pipeline.id)
    log.info("schedule %s (%s): pipeline %s for %s", row.id, row.name, pipeline.id, time)


def _specs_of(row: ScheduleRow) -> Mapping[str, StepSpec]:
    """Name of each step -> its spec, where what earlier steps make is stood in for; of a job under its own name."""
    if row.document["kind"] in SPECS:
        spec = parse_spec(row.document)
        return {spec.name: spec}
    return {step.name: step.spec for step in parse_pipeline(row.document).steps}


def _as_of_now(work: UnitOfWork, reach: Reach, step: NewStep, spec: StepSpec, origin: ScheduleOrigin) -> NewStep:
    """The step with what it reads now."""
    inputs = step.inputs
    frozen = refrozen(work, reach, spec, inputs.frozen, {*inputs.models, *inputs.datasets})
    inputs = inputs.model_copy(update={"frozen": frozen.model_copy(update={"schedule": origin})})
    if not work.removal.hold(inputs.frozen):
        message = "a model or data set that it reads was deleted."
        raise InvalidInput([Problem(message=message, remedy="Make the schedule anew.")])
    return replace(step, inputs=inputs)


def _submit_job(work: UnitOfWork, row: ScheduleRow, step: NewStep, request_sha256: str) -> UUID:
    spec = parse_spec(dict(step.spec))
    job, _ = work.jobs.submit(
        row.owner_id,
        actor=f"schedule:{row.name}",
        spec=spec.model_dump(mode="json"),
        inputs=step.inputs.frozen.model_dump(mode="json"),
        slots=1,
        memory_bytes=step.memory_bytes,
        gpus=spec.resources.gpus,
        max_runtime_s=spec.resources.max_runtime.total_seconds(),
        request_sha256=request_sha256,
        warnings=[dict(warning) for warning in step.warnings],
    )
    return job.id
