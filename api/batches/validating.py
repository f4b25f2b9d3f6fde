"""Whether a batch can be begun: its file asks one route, of models that there are."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache, partial
from itertools import islice
from pathlib import Path

from fastapi.concurrency import run_in_threadpool

from api.files.service import requests_limits
from api.inference.lookup import find_row
from api.parts import Parts
from corpus.batch_requests import Requests
from jobspecs.batches import BatchState
from jobspecs.problems import PROBLEMS_MAX, InvalidInput, Problem
from jobspecs.references import parse_reference
from jobspecs.rights import Principal
from storage.tables import BatchRow
from storage.tabular import detect_format

log = logging.getLogger(__name__)


async def validate(parts: Parts, user: Principal, row: BatchRow, path: Path) -> BatchState | None:
    """Moves it to `in_progress` or `failed`; its new state, None when that was not allowed any more."""
    arguments = {"path": path.resolve(), "file_name": path.name, "endpoint": row.endpoint}
    limits = requests_limits(parts, path.stat().st_size, detect_format(path.name))
    check = partial(parts.confinement.run, "batch_requests", arguments, limits, parts.stopping.is_set)
    try:
        found = Requests(**await parts.readings.run(row.owner_id, check))
        unknown = await run_in_threadpool(_unknown_models, parts, user, found)
        if unknown:
            raise InvalidInput(unknown)
    except InvalidInput as error:
        errors = [_error(problem) for problem in error.problems]
        return await run_in_threadpool(_moved, parts, row, BatchState.failed, {"errors": errors})
    model = next(iter(found.models)) if len(found.models) == 1 else None
    begun = {"requests": found.count, "model": model}
    return await run_in_threadpool(_moved, parts, row, BatchState.in_progress, begun)


async def fail(parts: Parts, row: BatchRow, why: str) -> None:
    """Ends one whose requests can't be read any more."""
    error = {"code": "file_not_found", "line": None, "message": why, "param": "input_file_id"}
    await run_in_threadpool(_moved, parts, row, BatchState.failed, {"errors": [error]})


def _unknown_models(parts: Parts, user: Principal, found: Requests) -> list[Problem]:
    @cache
    def is_known(name: str) -> bool:
        return find_row(parts, user, name) is not None

    unknown = (
        Problem(
            row=line,
            field="body.model",
            message=f"line {line}: there is no deployment {model}.",
            remedy=f"Make one: eigenwerk deploy {model.rpartition('/')[2]}",
        )
        for model, line in found.models.items()
        if not is_known(model.partition("@")[0]) and not _is_deployed_by_asking(parts, user, model)
    )
    # A file may name 50,000, and each is looked up in the database.
    return list(islice(unknown, PROBLEMS_MAX))


def _is_deployed_by_asking(parts: Parts, user: Principal, model: str) -> bool:
    try:
        reference = parse_reference(model)
    except ValueError:
        return False
    with parts.database.reading() as work:
        row = (
            work.models.find_model(user.reach("deployments.ask"), reference) if reference.source == "registry" else None
        )
    return row is not None and row.first_use is not None


def _error(problem: Problem) -> dict[str, object]:
    told = f"{problem.message} {problem.remedy}" if problem.remedy else problem.message
    code = "model_not_found" if problem.field == "body.model" else "invalid_request"
    return {"code": code, "line": problem.row, "message": told, "param": problem.field}


def _moved(parts: Parts, row: BatchRow, target: BatchState, values: Mapping[str, object]) -> BatchState | None:
    with parts.database.unit_of_work() as work:
        moved = work.batches.move(row.id, target, fence=row.fence, **values)
    log.info("batch %s: %s", row.id, target if moved is not None else "somebody else's by now, or to be ended")
    return target if moved is not None else None
