"""The families of schemes by the name that specs give. A new one adds a line here and to `jobspecs.kinds.quantize`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from workers.quantizing import bitsandbytes_saved, compressed, gguf_writing
from workers.quantizing.interface import Scheme

_COMPRESSED = Scheme(compressed.write, compressed.load, modules=("llmcompressor", "compressed_tensors"))

SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        "gptq": _COMPRESSED,
        "awq": _COMPRESSED,
        "int4-rtn": _COMPRESSED,
        "fp8": _COMPRESSED,
        "nf4": Scheme(bitsandbytes_saved.write, bitsandbytes_saved.load),
        "int8": Scheme(bitsandbytes_saved.write, bitsandbytes_saved.load),
        "gguf": Scheme(gguf_writing.write, gguf_writing.load, modules=("auto_round",)),
    }
)
