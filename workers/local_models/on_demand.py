"""Libraries that are imported when they are first used, not when the process starts.

peft and sentence-transformers' losses bring in bitsandbytes, which looks for GPUs as it is imported and keeps what it
found. The process that jobs are forked from has none: its children would inherit a bitsandbytes without GPU kernels,
and a CUDA runtime that was asked before the fork. They also cost that process 93 MB and 1.6 s of CPU.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any


class OnDemand:
    """Stands for the module of this name and imports it when something of it is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


class _WithoutKernelHub(logging.Filter):
    """Drops that bitsandbytes found no kernels of a hub: it falls back on its own, and we switch those off anyway."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Failed to load CPU gemm_4bit_forward")


class _WithoutCasts(logging.Filter):
    """Drops that 8-bit layers compute in fp16, which is said of every product of every token."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("MatMul8bitLt: inputs will be cast")


logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_WithoutKernelHub())
logging.getLogger("bitsandbytes.autograd._functions").addFilter(_WithoutCasts())
