"""The engines by the name that a deployment gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from workers.engines.embedded.engine import EmbeddedEngine
from workers.engines.interface import Engine

#: Name -> constructor, which takes the folder for the engine's logs.
ENGINES: Mapping[str, Callable[[Path], Engine]] = MappingProxyType(
    {
        "embedded": EmbeddedEngine,
    }
)
