"""A data set of several files is a tar: its files as files of the repository, each a range of the tar."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from api.hub.repositories import HubFile, Snapshot
from api.parts import Parts
from jobspecs.pieces import StoredFile

_BLOCK_BYTES = 512
_SIZE = slice(124, 136)
_KIND_AT = 156
#: Entries that are files; others are folders, or say more of the next entry.
_FILES = (b"0", b"\0")
#: Entries looked at for each file that is expected: one may have a longer name before it.
_ENTRIES_PER_FILE = 4


def with_members(parts: Parts, found: Snapshot, tar: StoredFile) -> Snapshot:
    """The snapshot with the files of its tar in the tar's place. Asks the object store: not inside a transaction."""
    members: list[HubFile] = []
    at = 0
    for _ in range(_ENTRIES_PER_FILE * len(found.members)):
        if len(members) == len(found.members) or at + _BLOCK_BYTES > tar.bytes:
            break
        with parts.objects.open_stored(tar, at, at + _BLOCK_BYTES) as stream:
            header = b"".join(stream)
        size = _number(header[_SIZE])
        at += _BLOCK_BYTES
        if header[_KIND_AT : _KIND_AT + 1] in _FILES:
            name = found.members[len(members)]
            # Of the file's own bytes no sum is kept: what names it is the tar's, and its name there.
            named = hashlib.sha256(f"{tar.sha256}\0{name}".encode()).hexdigest()
            members.append(HubFile(name, size, named, span=(at, at + size)))
        at += -(-size // _BLOCK_BYTES) * _BLOCK_BYTES
    others = [file for file in found.files if file.path != tar.path]
    return replace(found, files=(*others, *members))


def _number(field: bytes) -> int:
    """As tars write it: octal digits, or beyond 8 GB a number behind a first bit that is set."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << 88) - 1)
    return int(field.rstrip(b"\0 ") or b"0", 8)
