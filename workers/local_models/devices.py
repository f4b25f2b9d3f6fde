"""Where a run computes, and what makes it repeatable there."""

from __future__ import annotations

import contextlib
import ctypes
import os
from contextlib import AbstractContextManager
from typing import cast

import torch
from torch import nn
from torch.utils import deterministic

#: Threads of one job's matrix products; one unless the host says otherwise.
THREADS_VARIABLE = "EIGENWERK_TORCH_THREADS"

#: Compiled products to keep: about what one step's forward and backward pass use.
_KEPT_PRODUCTS = "24"
#: The C library, where it is glibc (or another that can give memory back); loaded once.
_TRIM_HEAP = getattr(ctypes.CDLL(None), "malloc_trim", None)


def prepare_device() -> torch.device:
    """The first visible GPU, else the CPU, with threads and repeatable algorithms set for this process."""
    torch.set_num_threads(max(1, int(os.environ.get(THREADS_VARIABLE, "1"))))
    # A job is one process of many on its host: the tokenizer's own threads would only compete.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # oneDNN, and torch above it, keep 1,024 compiled products, one per shape. Without padding nearly every batch has a
    # shape of its own: MiniLM's memory grew from 0.46 to 0.91 GB within 32 steps. The layers of one step share theirs.
    for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(cache, _KEPT_PRODUCTS)
    if torch.cuda.is_available():
        # Without this cuBLAS may pick kernels whose sums depend on timing.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling fresh memory finds bugs but costs time, and nothing here reads it before writing.
    deterministic.fill_uninitialized_memory = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def move_to(model: nn.Module, device: torch.device) -> nn.Module:
    """The model on that device; the same object."""
    return model.to(device)


def give_memory_back() -> None:
    """Returns freed memory to the system, which a job otherwise keeps for its next step.

    After training: the models that judge are blocks that don't fit what activations leave, and would come on top.
    """
    if _TRIM_HEAP is not None:
        _TRIM_HEAP(0)


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """bf16 products on GPUs that have them; fp32 elsewhere."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return cast(AbstractContextManager[object], torch.autocast("cuda", dtype=torch.bfloat16))
    return contextlib.nullcontext()
