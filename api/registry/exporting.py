"""A version as one tar file that is made while it is sent: SHA256SUMS, manifest.json, then its files."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import AsyncIterator, Sequence
from functools import partial

from api.parts import Parts
from api.streaming import next_chunk
from jobspecs.manifest import MANIFEST_NAME, Manifest
from jobspecs.pieces import StoredFile
from storage.objects import ObjectCorrupt

_BLOCK = tarfile.BLOCKSIZE


class Export:
    """The tar of one version, all of it in `folder`; its size is known before its first byte."""

    def __init__(self, folder: str, manifest: Manifest, files: Sequence[StoredFile], made_at_s: int) -> None:
        document = manifest.model_dump_json(indent=1).encode()
        sums = [(hashlib.sha256(document).hexdigest(), MANIFEST_NAME), *((file.sha256, file.path) for file in files)]
        self._texts = {
            "SHA256SUMS": "".join(f"{digest}  {path}\n" for digest, path in sums).encode(),
            MANIFEST_NAME: document,
        }
        self._folder = folder
        self._files = files
        self._made_at_s = made_at_s

    @property
    def size(self) -> int:
        """Bytes."""
        sizes = {path: len(text) for path, text in self._texts.items()} | {
            file.path: file.bytes for file in self._files
        }
        return sum(len(self._header(path, size)) + size + _padding(size) for path, size in sizes.items()) + 2 * _BLOCK

    async def chunks(self, parts: Parts) -> AsyncIterator[bytes]:
        """The whole of it. Raises ObjectCorrupt before the end of a file whose sha256 is not the manifest's."""
        for path, text in self._texts.items():
            yield self._header(path, len(text)) + text + bytes(_padding(len(text)))
        for file in self._files:
            yield self._header(file.path, file.bytes)
            async for chunk in _content(parts, file):
                yield chunk
            yield bytes(_padding(file.bytes))
        yield bytes(2 * _BLOCK)

    def _header(self, path: str, size: int) -> bytes:
        entry = tarfile.TarInfo(f"{self._folder}/{path}")
        entry.size, entry.mtime, entry.mode = size, self._made_at_s, 0o644
        return entry.tobuf(tarfile.PAX_FORMAT)


async def _content(parts: Parts, file: StoredFile) -> AsyncIterator[bytes]:
    digest = hashlib.sha256()

    def read() -> bytes | None:
        chunk = next_chunk(stream)
        digest.update(chunk or b"")
        return chunk

    stream = await parts.transfers.run(partial(parts.objects.open_stored, file, 0, file.bytes))
    try:
        while chunk := await parts.transfers.run(read, patient=True):
            yield chunk
    finally:
        stream.close()
    if digest.hexdigest() != file.sha256:
        raise ObjectCorrupt(file.pieces[0].key, f"sha256 {file.sha256}", f"sha256 {digest.hexdigest()}")


def _padding(size: int) -> int:
    return -size % _BLOCK
