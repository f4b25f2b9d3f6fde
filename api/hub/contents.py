"""What a file of a push consists of, and how it is fetched again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from api.errors import ApiError
from api.parts import Parts
from jobspecs.manifest import ManifestFile
from jobspecs.pieces import Piece, StoredFile, StoredPiece
from storage.database import UnitOfWork
from storage.keeping import keep_file
from storage.repositories.registry.blobs import stored_piece


class Content(BaseModel):
    """Bytes by their sum, and the pieces that they are stored in."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    sha256: str
    pieces: tuple[Piece, ...]

    def file(self, path: str) -> ManifestFile:
        return ManifestFile(path=path, bytes=self.bytes, sha256=self.sha256)

    @property
    def document(self) -> dict[str, Any]:
        """As the database keeps it."""
        return self.model_dump(mode="json")


def content_of(file: StoredFile) -> Content:
    pieces = tuple(Piece(bytes=piece.bytes, sha256=piece.sha256) for piece in file.pieces)
    return Content(bytes=file.bytes, sha256=file.sha256, pieces=pieces)


def keep(parts: Parts, path: Path, sha256: str, should_stop: Callable[[], bool]) -> Content:
    """Stores a file and holds it for a day. Raises ObjectCorrupt, TransferStopped."""
    return content_of(keep_file(parts.database, parts.objects, path, path.name, sha256=sha256, should_stop=should_stop))


def hold(work: UnitOfWork, contents: Iterable[Content]) -> dict[str, StoredPiece]:
    """sha256 -> piece; all stay for another day. Raises ApiError 409 when one is gone."""
    wanted = {piece.sha256: piece for content in contents for piece in content.pieces}
    rows = work.blobs.hold(list(wanted.values()))
    if any(row.stored_at is None for row in rows.values()):
        message = "Content of this push is gone: it took longer than a day. Push all of it again."
        raise ApiError(409, message, code="push_took_too_long")
    return {sha256: stored_piece(row) for sha256, row in rows.items()}


def stored(parts: Parts, contents: Collection[tuple[str, Content]]) -> dict[str, StoredFile]:
    """Path -> where its bytes are. Raises ApiError 409 when some are gone."""
    with parts.database.unit_of_work() as work:
        pieces = hold(work, [content for _, content in contents])
    return {
        path: StoredFile(
            path=path,
            bytes=content.bytes,
            sha256=content.sha256,
            pieces=tuple(pieces[piece.sha256] for piece in content.pieces),
        )
        for path, content in contents
    }
