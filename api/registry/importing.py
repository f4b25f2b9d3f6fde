"""Imports: what is checked and stored, and when files become a version."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

from fastapi import Request

from api.errors import ApiError, not_found
from api.foreign_files import FILE_LIMITS, MODEL_REMEDY, transferring
from api.inspection_cache import new_folder
from api.parts import Parts
from api.registry.imported_files import CONFIG, INDEX, missing
from api.registry.schemas import FileOfPieces, Import, ImportedFile, ModelVersionDetail, detail_of
from api.streaming import Received
from jobspecs.manifest import CARD, Manifest, ManifestFile
from jobspecs.pieces import PIECE_BYTES_MIN, Piece, StoredFile
from jobspecs.provenance import CARD_BYTES_READ, license_of_card
from jobspecs.rights import Principal
from storage.database import UnitOfWork
from storage.keeping import keep_file, keep_piece
from storage.objects import ObjectCorrupt
from storage.tables import ModelImportRow

#: Seconds that the object store has to tell of an import's files and to give out its configuration.
_LOOKUP_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class _Sent:
    """The files of an import, and a folder with those that are read when it is completed."""

    files: tuple[ManifestFile, ...]
    folder: Path
    #: As its README.md names it.
    license: str | None


def start(parts: Parts, user: Principal, name: str) -> Import:
    with parts.database.unit_of_work() as work:
        return Import(id=work.models.start_import(user.reach("models.write").maker, name).id, name=name)


def check_open(parts: Parts, user: Principal, import_id: UUID) -> None:
    """Raises ApiError 404 before the body of a file is read."""
    with parts.database.unit_of_work() as work:
        if work.models.open_import(user.reach("models.write"), import_id) is None:
            raise not_found(f"open import {import_id}")


def check(parts: Parts, path: str, received: Received, should_stop: Callable[[], bool]) -> None:
    """Raises InvalidInput when the file is not what its name says, and what `Confinement.run` raises."""
    parts.confinement.run("model_file", {"path": path, "content": received.path.resolve()}, FILE_LIMITS, should_stop)


def store(
    parts: Parts, user: Principal, import_id: UUID, path: str, received: Received, should_stop: Callable[[], bool]
) -> ImportedFile:
    """Stores a checked file and makes it one of the import.

    Raises ApiError 404 without such an open import, 409 when the path was sent with other content; TransferStopped.
    """
    file = keep_file(
        parts.database, parts.objects, received.path, path, sha256=received.sha256, should_stop=should_stop
    )
    with parts.database.unit_of_work() as work:
        _open(work, user, import_id)
        work.blobs.keep_for_import(import_id, {piece.sha256 for piece in file.pieces})
        _add_file(work, import_id, file)
    return ImportedFile(path=path, bytes=file.bytes, sha256=file.sha256)


def missing_pieces(parts: Parts, user: Principal, import_id: UUID, pieces: Sequence[Piece]) -> list[str]:
    """The sha256 of those that must be sent. The others belong to the import from now on.

    Nobody gets by a mere name what they can't read: what others have stored counts as missing.
    """
    wanted = {piece.sha256: piece for piece in pieces}
    with parts.database.unit_of_work() as work:
        _open(work, user, import_id)
        had = work.blobs.readable(user.reach("models.read"), wanted)
        work.blobs.hold([wanted[sha256] for sha256 in had])
        work.blobs.keep_for_import(import_id, had)
    return [sha256 for sha256 in wanted if sha256 not in had]


def store_piece(parts: Parts, user: Principal, import_id: UUID, sha256: str, received: Received) -> Piece:
    """Stores a piece of a file that is still to be put together. Raises ApiError 404; 422 when it is another one."""
    if received.sha256 != sha256:
        message = f"The piece arrived with sha256 {received.sha256}. Send it again."
        raise ApiError(422, message, code="sha256_mismatch", param=sha256)
    kept = keep_piece(parts.database, parts.objects, received.path.read_bytes())
    with parts.database.unit_of_work() as work:
        _open(work, user, import_id)
        work.blobs.keep_for_import(import_id, {kept.sha256})
    return Piece(bytes=kept.bytes, sha256=kept.sha256)


def put_together(
    parts: Parts,
    user: Principal,
    import_id: UUID,
    path: str,
    wanted: FileOfPieces,
    folder: Path,
    should_stop: Callable[[], bool],
) -> Received:
    """The file of pieces that the import has, in `folder`: read whole, because only that proves its sha256.

    Raises ApiError 404; InvalidInput when a piece is missing, or the file is not what it was said to be.
    """
    with parts.database.unit_of_work() as work:
        _open(work, user, import_id)
        pieces = work.blobs.of_import(import_id)
    absent = [piece.sha256 for piece in wanted.pieces if piece.sha256 not in pieces]
    if absent:
        raise missing(path, f"{len(absent)} of its {len(wanted.pieces)} pieces were not sent, {absent[0]} first.")
    found = tuple(pieces[piece.sha256] for piece in wanted.pieces)
    size = sum(piece.bytes for piece in found)
    if size != wanted.bytes or any(piece.bytes < PIECE_BYTES_MIN for piece in found[:-1]):
        message = f"its pieces have {size} bytes, not {wanted.bytes}, or one before the last is too small."
        raise missing(path, message)
    file = StoredFile(path=path, bytes=size, sha256=wanted.sha256, pieces=found)
    target = folder / "content"
    try:
        parts.objects.download_stored(file, target, should_stop=should_stop)
    except ObjectCorrupt as error:
        raise missing(path, f"its pieces together have another sha256 than {wanted.sha256}.") from error
    return Received(target, size, wanted.sha256)


def add_of_pieces(parts: Parts, user: Principal, import_id: UUID, path: str, wanted: FileOfPieces) -> ImportedFile:
    """Makes a file that was put together and checked one of the import. Raises ApiError 404, 409."""
    with parts.database.unit_of_work() as work:
        _open(work, user, import_id)
        pieces = work.blobs.of_import(import_id)
        found = tuple(pieces[piece.sha256] for piece in wanted.pieces)
        _add_file(work, import_id, StoredFile(path=path, bytes=wanted.bytes, sha256=wanted.sha256, pieces=found))
    return ImportedFile(path=path, bytes=wanted.bytes, sha256=wanted.sha256)


def _open(work: UnitOfWork, user: Principal, import_id: UUID) -> ModelImportRow:
    """The import, locked. Raises ApiError 404."""
    row = work.models.open_import(user.reach("models.write"), import_id, lock=True)
    if row is None:
        raise not_found(f"open import {import_id}")
    return row


def _add_file(work: UnitOfWork, import_id: UUID, file: StoredFile) -> None:
    plain = ManifestFile(path=file.path, bytes=file.bytes, sha256=file.sha256)
    earlier = next((known for known in work.models.import_files(import_id) if known.path == file.path), None)
    if earlier is not None and earlier != plain:
        message = f"{file.path} was sent with other content already. Start a new import."
        raise ApiError(409, message, code="import_file_differs", param=file.path)
    work.models.add_import_file(import_id, plain, [piece.sha256 for piece in file.pieces])


async def complete(parts: Parts, request: Request, user: Principal, import_id: UUID) -> tuple[ModelVersionDetail, bool]:
    """Makes the files a version, and tells whether it is new.

    Raises InvalidInput when files are missing or were not stored, and what `Readings.read` raises.
    """
    async with transferring(request, parts.stopping) as should_stop:
        found = await parts.lookups.run(partial(_sent_or_made, parts, user, import_id, should_stop))
    if isinstance(found, ModelVersionDetail):
        return found, False
    try:
        task = await parts.readings.read(request, user.user_id, CONFIG, MODEL_REMEDY, partial(_task, parts, found))
    finally:
        shutil.rmtree(found.folder, ignore_errors=True)
    return await parts.lookups.run(partial(_register, parts, user, import_id, found, task))


def _sent_or_made(
    parts: Parts, user: Principal, import_id: UUID, should_stop: Callable[[], bool]
) -> _Sent | ModelVersionDetail:
    """The stored files, or the version that they became before. Raises TransferStopped."""
    with parts.database.unit_of_work() as work:
        if work.models.open_import(user.reach("models.write"), import_id) is None:
            made = work.models.of_import(user.reach("models.write"), import_id)
            if made is None:
                raise not_found(f"open import {import_id}")
            return detail_of(made)
        files = work.models.import_files(import_id)
        pieces = work.blobs.of_import(import_id)
    _check_complete(files)
    objects = parts.objects.within(_LOOKUP_SECONDS_MAX)
    folder = new_folder(parts.spool.folder)
    license = None
    try:
        for file, parts_of_it in files.items():
            if file.path in (CONFIG, INDEX, CARD):
                found = tuple(pieces[sha256] for sha256 in parts_of_it)
                stored = StoredFile(**file.model_dump(), pieces=found)
                if file.path == CARD:
                    with objects.open_stored(stored, 0, min(file.bytes, CARD_BYTES_READ)) as beginning:
                        license = license_of_card(b"".join(beginning))
                else:
                    objects.download_stored(stored, folder / file.path, should_stop=should_stop)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return _Sent(tuple(files), folder, license)


def _task(parts: Parts, sent: _Sent, should_stop: Callable[[], bool]) -> str | None:
    request = {"folder": sent.folder.resolve(), "paths": [file.path for file in sent.files]}
    task: str | None = parts.confinement.run("import", request, FILE_LIMITS, should_stop)
    return task


def _register(
    parts: Parts, user: Principal, import_id: UUID, sent: _Sent, task: str | None
) -> tuple[ModelVersionDetail, bool]:
    """The version, and whether it is new: pushed once more, because its client never heard of it, it is the same."""
    with parts.database.unit_of_work() as work:
        row = work.models.open_import(user.reach("models.write"), import_id, lock=True)
        stored = work.models.import_files(import_id)
        if row is None or tuple(stored) != sent.files:
            raise ApiError(409, "The import changed meanwhile. Ask again.", code="import_changed")
        manifest = Manifest(artifact="model", task=task, files=sent.files, report={"source": "import"})
        version = known = work.models.newest_with(row.owner_id, row.name, manifest.digest)
        if version is None:
            version = work.models.add_version(row.owner_id, row.name, manifest=manifest, license=sent.license)
            work.blobs.attach(version.id, {file.path: pieces for file, pieces in stored.items()})
        work.models.complete_import(row, version)
        # What it consists of, the version refers to now; what else was sent stays for HELD_S.
        work.blobs.forget_import(import_id)
        return detail_of(version), known is None


def _check_complete(files: Mapping[ManifestFile, Sequence[str]]) -> None:
    paths = {file.path for file in files}
    if not any(path.endswith((".safetensors", ".gguf")) for path in paths):
        raise missing("model.safetensors", "there are no weights.")
    if CONFIG not in paths and not any(path.endswith(".gguf") for path in paths):
        raise missing(CONFIG, "the model's configuration is missing.")
    for file, pieces in files.items():
        if not pieces:
            # Of an import that was begun before there were pieces.
            raise missing(file.path, "the file was announced but not stored.")
