"""Where an engine computes."""

from __future__ import annotations

import ctypes

import torch

#: Settings of glibc's heap, by their numbers in malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
#: Larger blocks get places of their own in any case: this is the most that the library allows.
_HELD_BLOCK_BYTES = 32 << 20
_HELD_BYTES = 1 << 30


def take_device(threads: int) -> torch.device:
    """The first visible GPU, else the CPU, with this process set to `threads` torch threads, for an encoder."""
    torch.set_num_threads(threads)
    _hold_memory()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _hold_memory() -> None:
    """Keeps what one batch has freed for the next one, which needs the same; language models need the opposite.

    With places of their own (`SET_VARIABLES` of the engine) all activations were mapped anew: a third of a reranker's
    time went to the system's clearing of pages, 1.0 s of 3.1 for 200 pairs.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, _HELD_BLOCK_BYTES)
        library.mallopt(_TRIM_THRESHOLD, _HELD_BYTES)
        # Heaps of other threads are given back in pieces of 64 MiB, whatever the settings.
        library.mallopt(_ARENA_MAX, 1)
