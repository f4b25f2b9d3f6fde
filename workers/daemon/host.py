"""What this host offers, from the worker's environment."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_GIB = 1 << 30


@dataclass(frozen=True)
class HostConfig:
    """One worker: its name, capacity and places. Bytes."""

    name: str
    slots: int
    memory_bytes: int
    gpus: int
    #: Attempts work below it, engines read models from it, and both share its cache.
    scratch_dir: Path
    #: The cache is trimmed to this size before each fetch.
    cache_bytes_max: int = 50 * _GIB
    #: With less room than this on the scratch disk the host takes no new jobs.
    scratch_free_min_bytes: int = _GIB
    #: `module:attribute` of the runners that the zygote preloads.
    runners: str = "workers.runners.registry:RUNNERS"

    @property
    def cache_dir(self) -> Path:
        """Data sets and models, for jobs and deployments alike."""
        return self.scratch_dir / "cache"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> HostConfig:
        """Reads EIGENWERK_HOST_NAME, _SLOTS, _MEMORY_BYTES, _GPUS, _SCRATCH_DIR, _CACHE_BYTES_MAX,
        _SCRATCH_FREE_MIN_BYTES and _RUNNERS; what is absent is measured."""
        values = os.environ if environment is None else environment
        name = values.get("EIGENWERK_HOST_NAME") or socket.gethostname()
        default_scratch = Path(tempfile.gettempdir()) / f"eigenwerk-{name}"
        return cls(
            name=name,
            slots=int(values.get("EIGENWERK_SLOTS") or os.cpu_count() or 1),
            memory_bytes=int(values.get("EIGENWERK_MEMORY_BYTES") or _physical_memory_bytes()),
            gpus=int(values.get("EIGENWERK_GPUS") or len(list(Path("/dev").glob("nvidia[0-9]*")))),
            scratch_dir=Path(values.get("EIGENWERK_SCRATCH_DIR") or default_scratch).absolute(),
            cache_bytes_max=int(values.get("EIGENWERK_CACHE_BYTES_MAX") or cls.cache_bytes_max),
            scratch_free_min_bytes=int(values.get("EIGENWERK_SCRATCH_FREE_MIN_BYTES") or cls.scratch_free_min_bytes),
            runners=values.get("EIGENWERK_RUNNERS") or cls.runners,
        )


def _physical_memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
