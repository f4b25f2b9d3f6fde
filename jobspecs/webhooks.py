"""Webhooks: the events that they tell of, and the signature by which a receiver knows them (Standard Webhooks)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType

from jobspecs.lifecycle import JobState

SECRET_PREFIX = "whsec_"  # noqa: S105 - how every secret begins, not one
SECRET_BYTES = 32
#: Jobs that OpenAI has events for as well.
FINE_TUNING_KINDS = frozenset({"finetune-llm"})


class EventType(StrEnum):
    """What may be told. OpenAI's names where it has the event."""

    job_succeeded = "job.succeeded"
    job_failed = "job.failed"
    job_cancelled = "job.cancelled"
    fine_tuning_succeeded = "fine_tuning.job.succeeded"
    fine_tuning_failed = "fine_tuning.job.failed"
    fine_tuning_cancelled = "fine_tuning.job.cancelled"
    model_version_created = "model.version.created"
    model_alias_moved = "model.alias.moved"
    deployment_ready = "deployment.ready"
    deployment_failed = "deployment.failed"


_OF_JOBS: Mapping[JobState, tuple[EventType, EventType]] = MappingProxyType(
    {
        JobState.succeeded: (EventType.job_succeeded, EventType.fine_tuning_succeeded),
        JobState.failed: (EventType.job_failed, EventType.fine_tuning_failed),
        JobState.cancelled: (EventType.job_cancelled, EventType.fine_tuning_cancelled),
    }
)


def events_of_job(kind: str, state: JobState) -> tuple[EventType, ...]:
    """What is told when a job of that kind comes into the state; nothing for one in which it has not ended."""
    events = _OF_JOBS.get(state, ())
    return events if kind in FINE_TUNING_KINDS else events[:1]


def key_of(secret: str) -> bytes:
    """The bytes that sign. Raises ValueError for what is no secret of a webhook."""
    if not secret.startswith(SECRET_PREFIX):
        raise ValueError(f"a webhook's secret begins with {SECRET_PREFIX}")
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("a webhook's secret is base64") from error


def signed_headers(secrets: Sequence[str], message_id: str, sent_at_s: int, body: bytes) -> dict[str, str]:
    """The headers by which the receiver knows who sent the body, when (seconds since 1970), and whether it had it.

    Each signature is of `id.timestamp.body`, one for each secret, so that who knows any of them believes it;
    `message_id` stays the same however often the message is sent.
    """
    signed = f"{message_id}.{sent_at_s}.".encode() + body
    signatures = [hmac.digest(key_of(secret), signed, hashlib.sha256) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(sent_at_s),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(one).decode()}" for one in signatures),
    }
