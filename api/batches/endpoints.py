"""/v1/batches."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from api.authentication import TheUser, requires
from api.batches import service
from api.batches.schemas import Batch, BatchList, BatchSubmission
from api.inference.openai_route import openai_router
from api.parts import ThePlatform

router = openai_router("batches")

BatchId = Annotated[str, Path(max_length=100, description="batch_…")]


@router.post("/v1/batches")
@requires("batches.write")
def submit_batch(platform: ThePlatform, user: TheUser, body: BatchSubmission) -> Batch:
    """Asks all that a file asks, within a day, beside what is asked at once."""
    return service.submit(platform, user, body)


@router.get("/v1/batches")
@requires("batches.read")
def list_batches(
    platform: ThePlatform,
    user: TheUser,
    after: Annotated[str | None, Query(max_length=100, description="the last id of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> BatchList:
    """Yours, newest first."""
    return service.list_batches(platform, user, after=after, limit=limit)


@router.get("/v1/batches/{batch_id}")
@requires("batches.read")
def get_batch(platform: ThePlatform, user: TheUser, batch_id: BatchId) -> Batch:
    return service.get(platform, user, batch_id)


@router.post("/v1/batches/{batch_id}/cancel")
@requires("batches.write")
def cancel_batch(platform: ThePlatform, user: TheUser, batch_id: BatchId) -> Batch:
    """What was answered until then is kept as a file."""
    return service.cancel(platform, user, batch_id)
