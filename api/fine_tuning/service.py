"""Fine-tuning jobs: ordinary jobs, made and shown in OpenAI's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import UUID

from api.errors import ApiError
from api.files import service as files
from api.fine_tuning.asking import KIND, document_of, first_use_of, in_words_of_request
from api.fine_tuning.checkpoints import checkpoints_of
from api.fine_tuning.events import events_of
from api.fine_tuning.presenting import presented
from api.fine_tuning.schemas import (
    FineTuningCheckpoints,
    FineTuningEvents,
    FineTuningJob,
    FineTuningJobs,
    FineTuningRequest,
)
from api.jobs import service as jobs
from api.jobs.schemas import JobDetail
from api.parts import Parts
from jobspecs.openai_ids import key_of
from jobspecs.problems import InvalidInput
from jobspecs.rights import Principal
from storage.database import UnitOfWork
from storage.tables import DatasetVersionRow, JobRow


def create(
    parts: Parts, user: Principal, request: FineTuningRequest, key: str | None, gone: Callable[[], bool]
) -> FineTuningJob:
    """Queues the job. Raises what `jobs.service.submit` raises, with the fields that the client wrote."""
    with parts.database.unit_of_work() as work:
        training = files.find(work, user, request.training_file, param="training_file")
        validation = None
        if request.validation_file is not None:
            validation = _reference(files.find(work, user, request.validation_file, param="validation_file"))
    try:
        document = document_of(request, _reference(training), validation)
        job, _ = jobs.submit(
            parts, user, document, key, gone, notes=request.metadata or {}, first_use=first_use_of(request)
        )
    except InvalidInput as error:
        raise in_words_of_request(error, request) from error
    with parts.database.unit_of_work() as work:
        return presented(work, work.session.get_one(JobRow, job.id))


def _reference(row: DatasetVersionRow) -> str:
    return f"{row.dataset.owner.name}/{row.dataset.name}@{row.version}"


def list_jobs(
    parts: Parts, user: Principal, *, after: str | None, limit: int, notes: Mapping[str, str]
) -> FineTuningJobs:
    """The user's own, newest first."""
    with parts.database.unit_of_work() as work:
        before = _found(work, user, after, param="after").submitted_order if after else None
        reach = user.reach("jobs.read").own
        rows = work.jobs.list(reach, kind=KIND, notes=notes, before=before, limit=limit + 1)
        return FineTuningJobs(data=[presented(work, row) for row in rows[:limit]], has_more=len(rows) > limit)


def get(parts: Parts, user: Principal, job_id: str) -> FineTuningJob:
    with parts.database.unit_of_work() as work:
        return presented(work, _found(work, user, job_id))


def change(
    parts: Parts, user: Principal, job_id: str, how: Callable[[Parts, Principal, UUID], JobDetail]
) -> FineTuningJob:
    """The job after it was cancelled, paused or resumed."""
    with parts.database.unit_of_work() as work:
        row = _found(work, user, job_id)
    how(parts, user, row.id)
    return get(parts, user, job_id)


def events(parts: Parts, user: Principal, job_id: str, after: str | None, limit: int) -> FineTuningEvents:
    with parts.database.unit_of_work() as work:
        data, has_more = events_of(work, _found(work, user, job_id), after, limit)
    return FineTuningEvents(data=data, has_more=has_more)


def checkpoints(parts: Parts, user: Principal, job_id: str, after: str | None, limit: int) -> FineTuningCheckpoints:
    with parts.database.unit_of_work() as work:
        return checkpoints_of(work, _found(work, user, job_id), after, limit)


def _found(work: UnitOfWork, user: Principal, job_id: str, *, param: str | None = None) -> JobRow:
    """Raises ApiError 404, and 400 where it is `param` of a request; jobs of other kinds are none of these."""
    key = key_of("ftjob", job_id)
    row = work.jobs.find(user.reach("jobs.read"), key) if key is not None else None
    if row is None or row.kind != KIND:
        message = f"There is no fine-tuning job {job_id[:100]}."
        raise ApiError(404 if param is None else 400, message, code="fine_tuning_job_not_found", param=param)
    return row
