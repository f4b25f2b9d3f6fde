"""Pieces of files: what is stored once, however many files of however many versions hold it.

A safetensors file is cut behind tensors, so that a tensor that two files share is a piece, or whole pieces, of both.
The rule looks at sizes alone, in the order of the file, so that who adds a tensor shifts the cuts only up to the next
large one. All pieces but a file's last have at least PIECE_BYTES_MIN, so that the object store can put
them together by itself: S3 copies parts of 5 MiB or more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobspecs.manifest import ManifestFile

MIB = 1024 * 1024
#: Tensors are gathered until a piece has so many bytes.
PIECE_BYTES_MIN = 5 * MIB
#: A longer tensor is cut at multiples of this, behind its first PIECE_BYTES_MIN; other files at its multiples.
STRIDE_BYTES = 16 * MIB
#: Pieces of this size or less are sent as one.
PIECE_BYTES_MAX = 64 * MIB
#: S3 puts at most so many parts together: files beyond 32 GB are cut in longer strides.
PIECES_MAX = 10_000
_STRIDES_MAX = 2_000
#: As the format has it: more is no header, and the file is cut as any other.
_HEADER_BYTES_MAX = 100_000_000


class Piece(BaseModel):
    """Bytes that are stored once: their number, and their sha256 in lower-case hex."""

    model_config = ConfigDict(frozen=True)

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class StoredPiece(Piece):
    """A piece and the key of its object."""

    key: str


class StoredFile(ManifestFile):
    """A file and where its bytes are: the pieces, one after the other."""

    pieces: tuple[StoredPiece, ...]

    @classmethod
    def whole(cls, key: str, file: ManifestFile) -> StoredFile:
        """One that is an object of its own."""
        piece = StoredPiece(key=key, bytes=file.bytes, sha256=file.sha256)
        return cls(path=file.path, bytes=file.bytes, sha256=file.sha256, pieces=(piece,))


def stored_below(prefix: str, files: Sequence[ManifestFile]) -> tuple[StoredFile, ...]:
    """Files that are the objects `<prefix>/<path>`, as all were before there were pieces."""
    return tuple(StoredFile.whole(f"{prefix}/{file.path}", file) for file in files)


def piece_sizes(path: Path) -> list[int]:
    """Bytes of each piece of a file, in its order; an empty file is one empty piece."""
    size = path.stat().st_size
    if size <= PIECE_BYTES_MIN:
        return [size]
    stride = STRIDE_BYTES * -(-size // (_STRIDES_MAX * STRIDE_BYTES))
    spans = _tensor_spans(path, size) if path.suffix == ".safetensors" else None
    cuts = range(stride, size, stride) if spans is None else _cuts(spans, size, stride)
    edges = [0, *cuts, size]
    return [end - start for start, end in pairwise(edges)]


def _cuts(spans: Sequence[tuple[int, int]], size: int, stride: int) -> Iterator[int]:
    """Where pieces end, but for the last."""
    begun = 0
    for start, end in spans:
        if end - start >= 2 * PIECE_BYTES_MIN:
            # Whatever precedes a long tensor is in one piece with its first bytes, and only with these.
            for cut in range(start + PIECE_BYTES_MIN, end - PIECE_BYTES_MIN + 1, stride):
                begun = cut
                yield cut
        if end - begun >= PIECE_BYTES_MIN and end < size:
            begun = end
            yield end


def _tensor_spans(path: Path, size: int) -> list[tuple[int, int]] | None:
    """Start and end of each tensor in the file, in its order; None for what is no safetensors file.

    Whether it is a sound one isn't looked at: a wrong header cuts at useless places, and does no harm.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(_HEADER_BYTES_MAX, size - 8):
            return None
        try:
            header: Any = json.loads(file.read(length))
            offsets = sorted(tuple(entry["data_offsets"]) for name, entry in header.items() if name != "__metadata__")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
    spans, at = [], 0
    for offset in offsets:
        if len(offset) != 2 or not all(type(edge) is int for edge in offset) or not at <= offset[0] <= offset[1]:
            return None
        at = offset[1]
        spans.append((8 + length + offset[0], 8 + length + at))
    return spans if 8 + length + at <= size else None
