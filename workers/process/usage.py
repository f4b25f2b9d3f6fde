"""What a process takes while it works: memory beyond what it began with, GPU memory, and seconds.

A child is forked from a zygote whose libraries it shares, so its resident memory at the start is not its own. What
counts is how far its peak (VmHWM, `man 5 proc`) rises above that start, with two corrections (MiniLM as a classifier):

- less 57 MB of library code. A fork maps no page of a file; each is mapped when it is first used, though it is in
  memory already, for the zygote and every other child.
- and 31 MB of the zygote's pages that the child wrote to. Each is a copy of its own, which replaces one that counted
  as resident before; `gc.freeze` in the zygote keeps them few.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

from jobspecs.estimate import Estimate, MeasuredMemory, MeasuredTime
from jobspecs.manifest import read_manifest, write_manifest

log = logging.getLogger(__name__)

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
#: Sums over all mappings.
_MAPPINGS = Path("/proc/self/smaps_rollup")
#: Sets the peak back to what is resident now.
_RESET_PEAK = "5"


class Usage:
    """Counts from its making on. Where the kernel does not tell, `memory_bytes` is None."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun_s = clock()
        try:
            _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
            self._resident_bytes: int | None = _kernel_bytes("VmRSS")
            self._mapped_bytes, self._shared_bytes = _kernel_bytes("RssFile"), _shared_bytes()
        except OSError as error:
            log.info("memory is not measured here: %s", error)
            self._resident_bytes = None

    @property
    def seconds(self) -> float:
        return self._clock() - self._begun_s

    @property
    def memory_bytes(self) -> int | None:
        """Peak of main memory beyond the start."""
        if self._resident_bytes is None:
            return None
        grown = _kernel_bytes("VmHWM") - self._resident_bytes
        code = max(0, _kernel_bytes("RssFile") - self._mapped_bytes)
        copied = max(0, self._shared_bytes - _shared_bytes())
        return max(0, grown - code + copied)

    @property
    def gpu_memory_bytes(self) -> int | None:
        """Peak of what torch's allocator held on the GPU; None without one. Loads no library that the job did not."""
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_initialized():
            return None
        return int(torch.cuda.max_memory_reserved())


def add_usage(output_dir: Path, usage: Usage, estimate: Estimate | None, *, resumed: bool) -> None:
    """Writes what the attempt took, beside what was estimated, into the report of its manifest.

    The manifest's digest is of the files alone, so it stays the same.
    """
    manifest = read_manifest(output_dir)
    gpu = estimate.gpu_memory if estimate is not None else None
    memory = MeasuredMemory(
        estimated_bytes=estimate.main_memory.total if estimate is not None else None,
        measured_bytes=usage.memory_bytes,
        estimated_gpu_bytes=gpu.total if gpu is not None else None,
        measured_gpu_bytes=usage.gpu_memory_bytes,
    )
    seconds = usage.seconds
    duration = MeasuredTime(
        estimated_low_s=estimate.duration.low_s if estimate is not None else None,
        estimated_high_s=estimate.duration.high_s if estimate is not None else None,
        measured_s=round(seconds, 3),
        resumed=resumed,
        # An attempt that took up another's work did not do all the operations.
        operations_per_s=estimate.operations / max(seconds, 1e-3) if estimate is not None and not resumed else None,
    )
    report = {**manifest.report, "memory": memory.model_dump(), "duration": duration.model_dump()}
    write_manifest(output_dir, manifest.model_copy(update={"report": report}))


def _shared_bytes() -> int:
    """Written pages that the process has together with the one that it was forked from."""
    return _kernel_bytes("Shared_Dirty", _MAPPINGS)


def _kernel_bytes(name: str, file: Path = _STATUS) -> int:
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"the kernel does not tell {name}")
