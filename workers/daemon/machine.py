"""What machine this is: CPUs and load, and the GPUs as NVIDIA's driver (NVML) tells of them."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import pynvml

from jobspecs.hosts import GpuDevice, Machine

log = logging.getLogger(__name__)

#: Seconds between two looks at the GPUs.
LOOK_S = 10.0


class MachineWatch:
    """Looks at the GPUs in a thread of its own: a driver may hang on a broken one, and the host must go on to live."""

    def __init__(self) -> None:
        self._gpus: list[GpuDevice] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Without NVIDIA's driver there is nothing to look at."""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            log.info("no NVIDIA driver, so no GPUs are shown: %s", error)
            return
        self._thread = threading.Thread(target=self._look_on, name="gpus", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def now(self) -> Machine:
        """The CPUs now, the GPUs as they were at the last look."""
        return Machine(cpus=len(os.sched_getaffinity(0)), load_1m=round(os.getloadavg()[0], 2), gpus=self._gpus)

    def _look_on(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(pynvml.NVMLError):
                self._gpus = [look_at(index) for index in range(pynvml.nvmlDeviceGetCount())]
            self._stopping.wait(LOOK_S)


def look_at(index: int) -> GpuDevice:
    """The GPU of that index. Raises pynvml.NVMLError when it can't even be named."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        # It stays in the list: people should see that one of eight is gone.
        problem = f"the driver has lost it ({error}); restart the machine"
        return GpuDevice(index=index, uuid="", name="unknown", memory_bytes=0, memory_used_bytes=0, problem=problem)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    used = _told(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    return GpuDevice(
        index=index,
        uuid=pynvml.nvmlDeviceGetUUID(handle),
        name=pynvml.nvmlDeviceGetName(handle),
        memory_bytes=memory.total,
        memory_used_bytes=memory.used,
        load=None if used is None else used / 100,
        temperature_c=_told(lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
        problem=_problem(handle),
    )


def _problem(handle: Any) -> str | None:
    errors = _told(
        lambda: pynvml.nvmlDeviceGetTotalEccErrors(
            handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        )
    )
    _, _, pending, failed = _told(lambda: pynvml.nvmlDeviceGetRemappedRows(handle)) or (0, 0, 0, 0)
    if failed:
        return "its memory has more broken rows than spare ones; replace it"
    if errors:
        return f"{errors} memory errors that could not be corrected since the driver was loaded"
    return "rows of its memory wait for a reset to be replaced by spare ones; restart the machine" if pending else None


def _told(ask: Callable[[], Any]) -> Any:
    """None where the driver does not tell that of this GPU."""
    try:
        return ask()
    except pynvml.NVMLError:
        return None
