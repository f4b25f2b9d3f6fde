"""The shapes of batches, as OpenAI has them. Times are seconds since 1970."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.files.service import id_of
from api.fine_tuning.schemas import Metadata
from jobspecs.batches import ENDED, BatchState
from jobspecs.openai_ids import openai_id
from storage.repositories.serving.batches import Counts
from storage.tables import BatchRow

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
_NAMED = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


class BatchSubmission(BaseModel):
    model_config = ConfigDict(extra="forbid")

    input_file_id: str = Field(max_length=100, description="file-…, sent for the purpose batch")
    endpoint: Endpoint = Field(description="the route that every request names")
    completion_window: Literal["24h"] = "24h"
    metadata: Metadata | None = None
    output_expires_after: None = Field(default=None, description="files don't expire by themselves here")


class BatchError(BaseModel):
    code: str
    line: int | None
    message: str
    param: str | None


class BatchErrors(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(BaseModel):
    total: int
    completed: int
    failed: int


class Batch(BaseModel):
    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    #: Why it failed.
    errors: BatchErrors | None
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: BatchState
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str]
    #: The one that all requests name; null where they name several.
    model: str | None


class BatchList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool


def batch_of(row: BatchRow, counts: Counts) -> Batch:
    """`counts`: of the answers so far, for one that has not ended."""
    if row.state in ENDED:
        counts = Counts(row.completed, row.failed)
    times: dict[str, Any] = {f"{state}_at": row.times.get(state) for state in _NAMED}
    errors = [BatchError.model_validate(error) for error in row.errors]
    return Batch(
        id=openai_id("batch", row.id),
        endpoint=row.endpoint,
        errors=BatchErrors(data=errors) if errors else None,
        input_file_id=id_of(row.input_version_id) or "",
        status=BatchState(row.state),
        output_file_id=id_of(row.output_version_id),
        error_file_id=id_of(row.error_version_id),
        created_at=int(row.created_at.timestamp()),
        expires_at=int(row.expires_at.timestamp()),
        request_counts=RequestCounts(total=row.requests, completed=counts.completed, failed=counts.failed),
        metadata=row.notes,
        model=row.model,
        **times,
    )
