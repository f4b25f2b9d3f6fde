"""Imports: what is checked and stored, and when files become a version."""

from __future__ import annotations

import shutil
from collections.abc import Callable
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
from api.registry.schemas import Import, ImportedFile, ModelVersionDetail, detail_of
from api.streaming import Received
from jobspecs.manifest import CARD, Manifest, ManifestFile
from jobspecs.provenance import CARD_BYTES_READ, license_of_card
from jobspecs.rights import Principal
from storage.objects import ObjectNotFound, ObjectStore, TransferStopped

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
    """Records and sends a checked file, in this order: an object's content is settled before a byte of it is stored.

    So a file that arrives late, after the import was completed, can't replace what the version's manifest names.
    Raises TransferStopped.
    """
    file = ManifestFile(path=path, bytes=received.bytes, sha256=received.sha256)
    with parts.database.unit_of_work() as work:
        if work.models.open_import(user.reach("models.write"), import_id, lock=True) is None:
            raise not_found(f"open import {import_id}")
        earlier = next((known for known in work.models.import_files(import_id) if known.path == path), None)
        if earlier is not None and earlier != file:
            message = f"{path} was sent with other content already. Start a new import."
            raise ApiError(409, message, code="import_file_differs", param=path)
        work.models.add_import_file(import_id, file)
    key = f"{_prefix(import_id)}/{path}"
    parts.objects.upload_file(received.path, key, sha256=received.sha256, should_stop=should_stop)
    return ImportedFile(path=path, bytes=received.bytes, sha256=received.sha256)


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
    return await parts.lookups.run(partial(_register, parts, user, import_id, found, task)), True


def _sent_or_made(
    parts: Parts, user: Principal, import_id: UUID, should_stop: Callable[[], bool]
) -> _Sent | ModelVersionDetail:
    """The stored files, or the version that they became before. Raises TransferStopped."""
    prefix = _prefix(import_id)
    with parts.database.unit_of_work() as work:
        if work.models.open_import(user.reach("models.write"), import_id) is None:
            made = work.models.find_by_prefix(user.reach("models.write"), prefix)
            if made is None:
                raise not_found(f"open import {import_id}")
            return detail_of(made)
        files = work.models.import_files(import_id)
    objects = parts.objects.within(_LOOKUP_SECONDS_MAX)
    _check_complete(objects, prefix, files, should_stop)
    folder = new_folder(parts.spool.folder)
    try:
        for file in files:
            if file.path in (CONFIG, INDEX):
                objects.download_file(
                    f"{prefix}/{file.path}",
                    folder / file.path,
                    sha256=file.sha256,
                    bytes_total=file.bytes,
                    should_stop=should_stop,
                )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return _Sent(files, folder, _license(objects, prefix, files))


def _license(objects: ObjectStore, prefix: str, files: tuple[ManifestFile, ...]) -> str | None:
    card = next((file for file in files if file.path == CARD), None)
    if card is None:
        return None
    with objects.open_range(f"{prefix}/{CARD}", 0, min(card.bytes, CARD_BYTES_READ)) as chunks:
        return license_of_card(b"".join(chunks))


def _task(parts: Parts, sent: _Sent, should_stop: Callable[[], bool]) -> str | None:
    request = {"folder": sent.folder.resolve(), "paths": [file.path for file in sent.files]}
    task: str | None = parts.confinement.run("import", request, FILE_LIMITS, should_stop)
    return task


def _register(parts: Parts, user: Principal, import_id: UUID, sent: _Sent, task: str | None) -> ModelVersionDetail:
    with parts.database.unit_of_work() as work:
        row = work.models.open_import(user.reach("models.write"), import_id, lock=True)
        if row is None or work.models.import_files(import_id) != sent.files:
            raise ApiError(409, "The import changed meanwhile. Ask again.", code="import_changed")
        manifest = Manifest(artifact="model", task=task, files=sent.files, report={"source": "import"})
        version = work.models.add_version(
            row.owner_id, row.name, manifest=manifest, prefix=_prefix(import_id), license=sent.license
        )
        work.models.complete_import(row)
        return detail_of(version)


def _check_complete(
    objects: ObjectStore, prefix: str, files: tuple[ManifestFile, ...], should_stop: Callable[[], bool]
) -> None:
    paths = {file.path for file in files}
    if not any(path.endswith((".safetensors", ".gguf")) for path in paths):
        raise missing("model.safetensors", "there are no weights.")
    if CONFIG not in paths and not any(path.endswith(".gguf") for path in paths):
        raise missing(CONFIG, "the model's configuration is missing.")
    for file in files:
        if should_stop():
            raise TransferStopped(f"Nobody waits for the import {prefix} any more.")
        try:
            stored = objects.stat(f"{prefix}/{file.path}").bytes
        except ObjectNotFound:
            stored = -1
        if stored != file.bytes:
            raise missing(file.path, "the file was announced but not stored.")


def _prefix(import_id: UUID) -> str:
    return f"models/{import_id}"
