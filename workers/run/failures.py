"""Which reason of the closed list an exception or the death of a child stands for."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from pathlib import Path

from jobspecs.lifecycle import Reason
from workers.run.context import RunFailed

#: Libraries written in Rust or C++ (safetensors, torch) turn the error number into text.
_DISK_FULL_TEXTS = ("no space left on device", "disk quota exceeded", "os error 28", "os error 122")
_MEMORY_TEXTS = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")


def reason_of(error: BaseException) -> tuple[Reason, str]:
    """The reason, and one line for the user. Looks through causes: a library may have wrapped the true error."""
    if isinstance(error, RunFailed):
        return error.reason, error.message
    for link in _chain(error):
        text = f"{type(link).__name__}: {link}"
        if _is_disk_full(link):
            return Reason.disk_full, f"The scratch disk is full. {text}"
        if _is_out_of_memory(link):
            return Reason.out_of_memory, f"The memory did not suffice. {text}"
    return Reason.internal_error, f"{type(error).__name__}: {error}"


def host_reason_of(error: BaseException) -> tuple[Reason, str]:
    """As `reason_of`, for an error of the worker beside the job's own code: what is unforeseen is the host's defect."""
    reason, message = reason_of(error)
    return (Reason.host_defect if reason is Reason.internal_error else reason), message


def known_reason(name: str) -> Reason:
    """The reason of that name; a child that invents one has a defect."""
    return Reason(name) if name in Reason.__members__ else Reason.internal_error


def reason_of_death(number: int, *, oom_kills_before: int) -> tuple[Reason, str]:
    """Why a child died by a signal. The kernel's out-of-memory killer sends SIGKILL and counts what it kills."""
    name = signal.Signals(number).name
    if number == signal.SIGKILL and oom_kills() > oom_kills_before:
        return Reason.out_of_memory, "The kernel killed the job's process: the memory did not suffice."
    return Reason.crashed, f"The job's process was killed by {name}."


def oom_kills(vmstat: Path = Path("/proc/vmstat")) -> int:
    """How many processes the kernel has killed for want of memory since it started, in cgroups too."""
    for line in vmstat.read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill":
            return int(value)
    return 0


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(text in str(error).lower() for text in _DISK_FULL_TEXTS)


def _is_out_of_memory(error: BaseException) -> bool:
    # torch.OutOfMemoryError by name: this module must not import torch.
    if isinstance(error, MemoryError) or any(cls.__name__ == "OutOfMemoryError" for cls in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _MEMORY_TEXTS)
