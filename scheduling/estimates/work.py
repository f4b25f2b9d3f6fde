"""What a job kind does, as far as its memory and its time depend on it."""

from __future__ import annotations

from dataclasses import dataclass

from jobspecs.estimate import MemoryParts

#: Memory that glibc can't give to the next request, as a share of activations, of an encoder.
SLACK_SHARE = 0.10


@dataclass(frozen=True)
class Work:
    """What a kind does: parts without `runtime`, tokens through the model, and operations."""

    parameters: int
    trainable: int
    parts: MemoryParts
    tokens: int
    operations: float
    #: What the C library's allocator holds beside activations, as a share of them.
    slack_share: float = SLACK_SHARE
    #: Of libraries that the job imports beside those that every job finds.
    imported_bytes: int = 0
    #: What judging holds at its peak, when training has given its memory back.
    judging_bytes: int = 0
