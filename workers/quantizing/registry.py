"""The families of schemes by the name that specs give. A new one adds a line here and to `jobspecs.kinds.quantize`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from workers.quantizing import gguf_writing
from workers.quantizing.interface import Scheme

SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        "gguf": Scheme(gguf_writing.write, gguf_writing.load, modules=("auto_round",)),
    }
)
