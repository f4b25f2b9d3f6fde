"""Batches: files of requests to deployed models, in OpenAI's shape, and the states that a batch goes through."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

#: Routes that requests may name.
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
#: Of one file: as OpenAI's.
REQUESTS_MAX = 50_000
FILE_BYTES_MAX = 200 * 1024**2
#: Of one request: as one by itself may have.
LINE_BYTES_MAX = 1_000_000
CUSTOM_ID_CHARS_MAX = 512
#: As a request by itself may name.
MODEL_CHARS_MAX = 300
#: Of the answers of one batch together.
ANSWERS_BYTES_MAX = 4 * 1024**3


class BatchState(StrEnum):
    """OpenAI's words."""

    validating = "validating"
    failed = "failed"
    in_progress = "in_progress"
    finalizing = "finalizing"
    completed = "completed"
    expired = "expired"
    cancelling = "cancelling"
    cancelled = "cancelled"


S = BatchState

#: The allowed transitions. Everything that isn't here is refused by `BatchRepository.move`.
TRANSITIONS: Mapping[BatchState, frozenset[BatchState]] = MappingProxyType(
    {
        S.validating: frozenset({S.in_progress, S.failed, S.cancelling, S.expired}),
        S.in_progress: frozenset({S.finalizing, S.cancelling, S.expired, S.failed}),
        # Its answers are being put together; asked to end now, it still completes.
        S.finalizing: frozenset({S.completed}),
        S.cancelling: frozenset({S.cancelled}),
        S.completed: frozenset(),
        S.failed: frozenset(),
        S.expired: frozenset(),
        S.cancelled: frozenset(),
    }
)
#: States that never change again.
ENDED = frozenset(state for state, targets in TRANSITIONS.items() if not targets)
UNENDED = tuple(state.value for state in BatchState if state not in ENDED)
