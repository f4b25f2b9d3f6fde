"""The two binary formats in which clients send files as chunks: xorbs, which hold them, and shards, which name them.

A xorb is chunks, each behind a header of 8 bytes: a version, 0; the length as stored, in 3 bytes; how it is stored; the
length when unpacked, in 3 bytes. A shard has entries of 48 bytes: behind its header, for each file, one with its name
and the number of its terms, these terms (chunks so and so of a xorb), as many entries again to verify them where a flag
says so, and the sha256. All numbers are little-endian. Nothing is believed: counts are compared with what is there,
chunks unpack to what they say or are refused, and who puts a file together compares its sha256.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import lz4.frame

XORB_BYTES_MAX = 80 * 1024 * 1024
SHARD_BYTES_MAX = 72 * 1024 * 1024
#: Clients cut at 128 KiB.
CHUNK_BYTES_MAX = 1024 * 1024
#: Clients cut a xorb at 8192 chunks, and send 256 files at once. An entry costs 120 bytes of memory, and a xorb of
#: nothing but empty chunks would have ten million of them.
CHUNKS_MAX = 65_536
FILES_MAX = 10_000
_CHUNK_HEADER_BYTES = 8
_ENTRY_BYTES = 48
_RAW, _LZ4, _GROUPED = 0, 1, 2
_VERIFIED = 1 << 31
_WITH_SHA256 = 1 << 30
_LAST = b"\xff" * 32


class BadXet(ValueError):
    """The bytes are not what their format demands; the message says why."""


@dataclass(frozen=True)
class Term:
    """The chunks `first` up to, not including, `last` of a xorb."""

    xorb: str
    first: int
    last: int


@dataclass(frozen=True)
class ShardFile:
    """A file: its terms, one after the other, and what their bytes must sum up to."""

    sha256: str
    _shard: bytes = field(repr=False)
    _at: int
    _count: int

    @property
    def terms(self) -> Iterator[Term]:
        """Read as they are needed: a shard may name a million."""
        return (_term(self._shard, self._at + _ENTRY_BYTES * number) for number in range(self._count))


class Xorb:
    """The chunks of a xorb, which unpack one at a time."""

    def __init__(self, body: bytes) -> None:
        """Raises BadXet."""
        self._body = body
        #: Where each chunk's content begins, its stored length, how it is stored, its length.
        self._chunks: list[tuple[int, int, int, int]] = []
        at = 0
        # Behind the chunks there may be a list of them, which begins with a letter.
        while at + _CHUNK_HEADER_BYTES <= len(body) and body[at] == 0:
            stored, how = int.from_bytes(body[at + 1 : at + 4], "little"), body[at + 4]
            size = int.from_bytes(body[at + 5 : at + 8], "little")
            at += _CHUNK_HEADER_BYTES
            if stored > len(body) - at or size > CHUNK_BYTES_MAX or how not in (_RAW, _LZ4, _GROUPED):
                raise BadXet(
                    f"chunk {len(self._chunks)} of the xorb is cut off, too large, or stored in an unknown way"
                )
            if len(self._chunks) == CHUNKS_MAX:
                raise BadXet(f"the xorb has more than {CHUNKS_MAX:,} chunks")
            self._chunks.append((at, stored, how, size))
            at += stored
        if not self._chunks:
            raise BadXet("the xorb has no chunks")

    def bytes_of(self, term: Term) -> int:
        """How many bytes the term's chunks unpack to. Raises BadXet."""
        return sum(size for _, _, _, size in self._of(term))

    def unpacked(self, term: Term) -> Iterator[bytes]:
        """The term's chunks. Raises BadXet."""
        for at, stored, how, size in self._of(term):
            content = _unpacked(self._body[at : at + stored], how, size)
            if len(content) != size:
                raise BadXet(f"a chunk has {len(content)} bytes, not {size}")
            yield content

    def _of(self, term: Term) -> list[tuple[int, int, int, int]]:
        if not 0 <= term.first < term.last <= len(self._chunks):
            raise BadXet(f"the xorb {term.xorb[:12]}… has {len(self._chunks)} chunks, not {term.last}")
        return self._chunks[term.first : term.last]


def files_of_shard(body: bytes) -> list[ShardFile]:
    """Raises BadXet."""
    at, files = _ENTRY_BYTES, list[ShardFile]()
    while _taken(body, at)[:32] != _LAST:
        flags, count = struct.unpack_from("<II", body, at + 32)
        at += _ENTRY_BYTES
        if not flags & _WITH_SHA256:
            raise BadXet("a file comes without its sha256")
        if count > (len(body) - at) // _ENTRY_BYTES:
            raise BadXet("the shard ends before its terms")
        if len(files) == FILES_MAX:
            raise BadXet(f"the shard names more than {FILES_MAX:,} files")
        terms_at = at
        at += _ENTRY_BYTES * count * (2 if flags & _VERIFIED else 1)
        files.append(ShardFile(_name(_taken(body, at)), body, terms_at, count))
        at += _ENTRY_BYTES
    return files


def _term(body: bytes, at: int) -> Term:
    entry = _taken(body, at)
    first, last = struct.unpack_from("<II", entry, 40)
    return Term(_name(entry), first, last)


def _taken(body: bytes, at: int) -> bytes:
    entry = body[at : at + _ENTRY_BYTES]
    if len(entry) < _ENTRY_BYTES:
        raise BadXet("the shard is cut off")
    return entry


def _name(entry: bytes) -> str:
    """A sum of 32 bytes, written as clients write it: as four numbers of 64 bits."""
    return "".join(f"{number:016x}" for number in struct.unpack_from("<4Q", entry))


def _unpacked(stored: bytes, how: int, size: int) -> bytes:
    if how == _RAW:
        return stored
    try:
        # One byte more than it may have: what is longer is seen, and not unpacked.
        content: bytes = lz4.frame.LZ4FrameDecompressor().decompress(stored, max_length=size + 1)
    except RuntimeError as error:
        raise BadXet("a chunk can't be unpacked") from error
    return _ungrouped(content) if how == _GROUPED else content


def _ungrouped(content: bytes) -> bytes:
    """First bytes of all words of four first, then second bytes: back into words."""
    whole = bytearray(len(content))
    begun = 0
    for place in range(4):
        count = len(whole[place::4])
        whole[place::4] = content[begun : begun + count]
        begun += count
    return bytes(whole)
