"""What this host offers, from the worker's environment."""

from __future__ import annotations

import itertools
import os
import re
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.settings import whole_number

_GIB = 1 << 30
#: As CUDA does it, what follows the first name that is none counts for nothing.
_GPU_ID = re.compile(r"\d+|(?:GPU|MIG)-[\w/-]+", re.ASCII)


@dataclass(frozen=True)
class HostConfig:
    """One worker: its name, capacity and places. Bytes."""

    name: str
    slots: int
    memory_bytes: int
    #: The GPUs that jobs may get, as CUDA_VISIBLE_DEVICES names them: indices, `GPU-…` or `MIG-…`.
    gpu_ids: tuple[str, ...]
    #: Attempts work below it, engines read models from it, and both share its cache.
    scratch_dir: Path
    #: The cache is trimmed to this size before each fetch.
    cache_bytes_max: int = 50 * _GIB
    #: With less room than this on the scratch disk the host takes no new jobs.
    scratch_free_min_bytes: int = _GIB
    #: Where other machines reach its engines, a name or an address; None: only this machine asks them.
    address: str | None = None
    #: A certificate for that address with its key, instead of one that the worker makes.
    tls_cert: Path | None = None
    tls_key: Path | None = None
    #: `module:attribute` of the runners that the zygote preloads.
    runners: str = "workers.runners.registry:RUNNERS"

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise RuntimeError("EIGENWERK_HOST_TLS_CERT and EIGENWERK_HOST_TLS_KEY belong together. Set both.")
        if self.tls_cert is not None and self.address is None:
            raise RuntimeError("A certificate is for an address: set EIGENWERK_HOST_ADDRESS, too.")

    @property
    def gpus(self) -> int:
        return len(self.gpu_ids)

    @property
    def cache_dir(self) -> Path:
        """Data sets and models, for jobs and deployments alike."""
        return self.scratch_dir / "cache"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> HostConfig:
        """Reads EIGENWERK_HOST_NAME, _SLOTS, _MEMORY_BYTES, _GPUS, _SCRATCH_DIR, _CACHE_BYTES_MAX,
        _SCRATCH_FREE_MIN_BYTES, _HOST_ADDRESS, _HOST_TLS_CERT, _HOST_TLS_KEY and _RUNNERS; what is absent is measured.
        CUDA_VISIBLE_DEVICES limits the GPUs.

        Raises RuntimeError for settings that contradict each other, ValueError for one that is no number.
        """
        values = os.environ if environment is None else environment
        name = values.get("EIGENWERK_HOST_NAME") or socket.gethostname()
        default_scratch = Path(tempfile.gettempdir()) / f"eigenwerk-{name}"
        return cls(
            name=name,
            slots=whole_number(values, "EIGENWERK_SLOTS", os.cpu_count() or 1),
            memory_bytes=whole_number(values, "EIGENWERK_MEMORY_BYTES", _physical_memory_bytes()),
            gpu_ids=_gpu_ids(values.get("EIGENWERK_GPUS"), values.get("CUDA_VISIBLE_DEVICES")),
            scratch_dir=Path(values.get("EIGENWERK_SCRATCH_DIR") or default_scratch).absolute(),
            cache_bytes_max=whole_number(values, "EIGENWERK_CACHE_BYTES_MAX", cls.cache_bytes_max),
            scratch_free_min_bytes=whole_number(values, "EIGENWERK_SCRATCH_FREE_MIN_BYTES", cls.scratch_free_min_bytes),
            address=values.get("EIGENWERK_HOST_ADDRESS") or None,
            tls_cert=_path(values, "EIGENWERK_HOST_TLS_CERT"),
            tls_key=_path(values, "EIGENWERK_HOST_TLS_KEY"),
            runners=values.get("EIGENWERK_RUNNERS") or cls.runners,
        )


def _path(values: Mapping[str, str], name: str) -> Path | None:
    return Path(values[name]) if values.get(name) else None


def _physical_memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _gpu_ids(wanted: str | None, visible: str | None) -> tuple[str, ...]:
    """The first `wanted` of those that are visible; all of them when no number is given."""
    if visible is None:
        count = int(wanted or len(list(Path("/dev").glob("nvidia[0-9]*"))))
        return tuple(map(str, range(count)))
    ids = tuple(itertools.takewhile(_GPU_ID.fullmatch, (part.strip() for part in visible.split(","))))
    if len(set(ids)) < len(ids):
        raise RuntimeError(f"CUDA_VISIBLE_DEVICES={visible} names a GPU twice. Name each once.")
    if wanted and int(wanted) > len(ids):
        raise RuntimeError(
            f"EIGENWERK_GPUS={wanted}, but CUDA_VISIBLE_DEVICES={visible} shows {len(ids)}. Change one of them."
        )
    return ids[: int(wanted)] if wanted else ids
