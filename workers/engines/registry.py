"""The engines by the name that a deployment gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from workers.engines.attended import AttendedEngine
from workers.engines.embedded.engine import EmbeddedEngine
from workers.engines.external import External
from workers.engines.interface import Adapter, Engine
from workers.engines.llamacpp.adapter import LlamaCpp
from workers.engines.tgi.adapter import Tgi
from workers.engines.vllm.adapter import Vllm

#: Engines of others, each with an attendant.
ADAPTERS: tuple[Adapter, ...] = (LlamaCpp(), Vllm(), Tgi(), External())

#: Name -> constructor, which takes the folder for the engine's logs.
ENGINES: Mapping[str, Callable[[Path], Engine]] = MappingProxyType(
    {
        "embedded": EmbeddedEngine,
        **{adapter.kind.name: partial(AttendedEngine, adapter) for adapter in ADAPTERS},
    }
)
