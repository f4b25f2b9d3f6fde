"""The header of a GGUF file, checked before anything else reads it: counts, lengths and offsets stay within bounds.

The layout is that of llama.cpp's ggml (docs/gguf.md), versions 2 and 3: magic, version, number of tensors, number of
metadata entries; the entries; name, shape, type and offset of each tensor; then the tensors, aligned. Nothing is
allocated by what the file says: numbers in it are compared with its size first. Nor is the file mapped: a file may be
larger than all the memory that the process of its check may address.
"""

from __future__ import annotations

import math
import struct
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

VERSIONS = (2, 3)
HEADER_BYTES_MAX = 256 * 1024 * 1024
TENSORS_MAX = 20_000
ENTRIES_MAX = 10_000
#: Elements of all arrays together: a vocabulary of 256,000 has as many texts, scores and types, and merges.
ELEMENTS_MAX = 8_000_000
#: Those of them that are texts, each of which is looked at: vocabulary and merges of such a model are 0.8 million.
TEXTS_MAX = 2_000_000
_KEY_BYTES_MAX = 65_535
_TENSOR_NAME_BYTES_MAX = 256
_DIMENSIONS_MAX = 4
_ALIGNMENT = b"general.alignment"
_STRING, _ARRAY = 8, 9
#: Metadata type -> bytes of a value: 8- to 32-bit numbers and booleans, then 64-bit ones.
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
#: Type of a tensor, as ggml numbers them -> (values in a block, bytes of a block).
BLOCKS = {
    **{0: (1, 4), 1: (1, 2), 30: (1, 2), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8)},  # plain numbers
    **{2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40)},  # Q4_0 to Q8_1
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)},  # Q2_K to Q8_K
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110)},  # IQ2_XXS to IQ3_S
    **{22: (256, 82), 23: (256, 136), 29: (256, 56)},  # IQ2_S, IQ4_XS, IQ1_M
    **{34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18)},  # ternary, MXFP4, and newer ones
}


class BadGguf(ValueError):
    """The file is no GGUF that can be read; the message says why."""


def check_gguf(path: Path) -> None:
    """Raises BadGguf."""
    size = path.stat().st_size
    if size < 24:
        raise BadGguf("the content is no GGUF: it is too short to be one")
    with path.open("rb") as stream:
        _Header(stream, size).check()


class _Header:
    """Reads on from `_at`; every step is compared with the end of the header first."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._bytes = size
        self._limit = min(self._bytes, HEADER_BYTES_MAX)
        self._at = 0
        self._elements = self._texts = 0
        self._alignment = 32

    def check(self) -> None:
        if self._take(4) != b"GGUF":
            raise BadGguf("the content is no GGUF")
        version = self._number("<I")
        if version not in VERSIONS:
            raise BadGguf(f"version {version} is none of {', '.join(map(str, VERSIONS))} (little-endian)")
        tensors, entries = self._number("<Q"), self._number("<Q")
        if not 1 <= tensors <= TENSORS_MAX:
            raise BadGguf(f"it names {tensors} tensors; 1 to {TENSORS_MAX} are possible")
        if entries > ENTRIES_MAX:
            raise BadGguf(f"it names {entries} metadata entries; {ENTRIES_MAX} are possible")
        for _ in range(entries):
            self._entry()
        spans = sorted(self._tensor() for _ in range(tensors))
        self._check_spans(spans)

    def _entry(self) -> None:
        key = self._text(_KEY_BYTES_MAX)
        kind = self._number("<I")
        if key == _ALIGNMENT and kind == 4:
            self._alignment = self._number("<I")
            if self._alignment < 8 or self._alignment & (self._alignment - 1) or self._alignment > 1 << 20:
                raise BadGguf(f"general.alignment is {self._alignment}, which is no power of two from 8 on")
        elif kind == _ARRAY:
            self._array()
        else:
            self._values(kind, 1)

    def _array(self) -> None:
        kind, count = self._number("<I"), self._number("<Q")
        self._elements += count
        if self._elements > ELEMENTS_MAX:
            raise BadGguf(f"its metadata has more than {ELEMENTS_MAX} values")
        self._values(kind, count)

    def _values(self, kind: int, count: int) -> None:
        if kind == _STRING:
            self._texts += count
            if self._texts > TEXTS_MAX:
                raise BadGguf(f"its metadata has more than {TEXTS_MAX} texts")
            for _ in range(count):
                self._skip(self._number("<Q"))
        elif kind in _SCALAR_BYTES:
            self._skip(_SCALAR_BYTES[kind] * count)
        else:
            raise BadGguf(f"a metadata entry has the type {kind}, which is none, or an array of arrays")

    def _tensor(self) -> tuple[int, int]:
        """Where it begins and ends, from the beginning of the tensors."""
        name = self._text(_TENSOR_NAME_BYTES_MAX).decode("utf-8", errors="replace")
        dimensions = self._number("<I")
        if not 1 <= dimensions <= _DIMENSIONS_MAX:
            raise BadGguf(f"tensor {name!r} has {dimensions} dimensions")
        shape = [self._number("<Q") for _ in range(dimensions)]
        kind, begin = self._number("<I"), self._number("<Q")
        if kind not in BLOCKS:
            raise BadGguf(f"tensor {name!r} has the unknown type {kind}")
        block, block_bytes = BLOCKS[kind]
        if shape[0] % block or not all(shape):
            raise BadGguf(f"tensor {name!r} of shape {shape} does not consist of whole blocks of {block}")
        return begin, begin + math.prod(shape) // block * block_bytes

    def _check_spans(self, spans: list[tuple[int, int]]) -> None:
        start = -(-self._at // self._alignment) * self._alignment
        if any(begin % self._alignment for begin, _ in spans):
            raise BadGguf("a tensor does not begin where it should")
        if any(end > begin for (_, end), (begin, _) in pairwise(spans)):
            raise BadGguf("tensors overlap")
        if start + spans[-1][1] > self._bytes:
            raise BadGguf("the file ends before its last tensor")

    def _text(self, bytes_max: int) -> bytes:
        length = self._number("<Q")
        if length > bytes_max:
            raise BadGguf(f"a name has {length} bytes; {bytes_max} are possible")
        return self._take(length)

    def _number(self, layout: str) -> int:
        value: int = struct.unpack(layout, self._take(struct.calcsize(layout)))[0]
        return value

    def _take(self, count: int) -> bytes:
        self._advance(count)
        return self._stream.read(count)

    def _skip(self, count: int) -> None:
        self._advance(count)
        self._stream.seek(self._at)

    def _advance(self, count: int) -> None:
        if count > self._limit - self._at:
            raise BadGguf("it ends in the middle of its header, or the header is larger than 256 MiB")
        self._at += count
