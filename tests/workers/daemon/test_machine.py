"""What is told of GPUs, by a driver that is played: no test machine has one."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pynvml
import pytest

from workers.daemon import machine
from workers.daemon.machine import MachineWatch


class Driver:
    """Two GPUs; what the second has is for a test to say."""

    NVMLError = pynvml.NVMLError
    NVML_TEMPERATURE_GPU = NVML_MEMORY_ERROR_TYPE_UNCORRECTED = NVML_VOLATILE_ECC = 0

    def __init__(self) -> None:
        self.lost: set[int] = set()
        self.errors = 0
        self.remapped = (0, 0, 0, 0)

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index in self.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "NVIDIA H200"

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(total=139 << 30, used=handle << 30)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=50)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    def nvmlDeviceGetTotalEccErrors(self, handle: int, kind: int, counter: int) -> int:
        return self.errors * handle

    def nvmlDeviceGetRemappedRows(self, handle: int) -> tuple[int, int, int, int]:
        return self.remapped if handle else (0, 0, 0, 0)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    played = Driver()
    monkeypatch.setattr(machine, "pynvml", played)
    return played


def test_a_machine_without_a_driver_has_no_gpus() -> None:
    watch = MachineWatch()
    watch.start()
    now = watch.now()
    assert (now.gpus, now.cpus > 0) == ([], True)


def test_gpus_are_told_with_model_memory_and_what_the_driver_knows(driver: Driver) -> None:
    watch = MachineWatch()
    watch.start()
    deadline = time.monotonic() + 10
    while not watch.now().gpus and time.monotonic() < deadline:
        time.sleep(0.01)
    watch.stop()
    first, second = watch.now().gpus
    assert (first.name, first.memory_bytes, first.load, first.temperature_c) == ("NVIDIA H200", 139 << 30, 0.5, None)
    assert (second.uuid, second.memory_used_bytes, second.problem) == ("GPU-1", 1 << 30, None)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"lost": {1}}, "lost it"),
        ({"errors": 3}, "3 memory errors"),
        ({"remapped": (0, 1, 0, 1)}, "replace it"),
        ({"remapped": (0, 1, 1, 0)}, "restart the machine"),
    ],
)
def test_a_gpu_that_is_not_well_says_what_is_wrong(driver: Driver, fault: dict[str, object], said: str) -> None:
    vars(driver).update(fault)
    assert machine.look_at(0).problem is None
    problem = machine.look_at(1).problem
    assert problem is not None
    assert said in problem
