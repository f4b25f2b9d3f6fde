"""What a job kind does, as far as its memory and its time depend on it."""

from __future__ import annotations

from dataclasses import dataclass

from jobspecs.estimate import MemoryParts

#: What a job imports itself because the process that it is forked from must not: peft, or sentence-transformers'
#: losses, 1,314 modules. 30 MB of their own, and 70 MB of that process's pages that importing writes to.
IMPORTED_BYTES = 100_000_000
#: Memory that glibc can't give to the next request, as a share of activations. A layer of an encoder leaves few holes;
#: a decoder's many results of 1 to 3 MB leave more: SmolLM2 with LoRA held 1.24 GB above its weights, and 0.75 GB, as
#: computed, with every block of 256 kB or more mapped for itself (MALLOC_MMAP_THRESHOLD_). In whole jobs, forked as
#: workers fork them, adapters held 150 to 520 MB more than that (three runs, no two alike); full tuning did not.
SLACK_SHARE, SLACK_SHARE_CAUSAL, SLACK_SHARE_ADAPTER = 0.10, 0.45, 0.75


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
