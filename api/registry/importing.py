"""Imports: what is checked and stored, and when files become a version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from api.errors import ApiError, not_found
from api.foreign_files import FILE_LIMITS
from api.parts import Parts
from api.registry.imported_files import DOCUMENT_BYTES_MAX
from api.registry.schemas import Import, ImportedFile, ModelVersionDetail, detail_of
from api.streaming import Received
from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.model_tasks import task_of_model
from jobspecs.problems import InvalidInput, Problem
from jobspecs.rights import Principal
from jobspecs.strict_json import parse_json_file
from storage.objects import ObjectNotFound

_CONFIG = "config.json"
_INDEX = "model.safetensors.index.json"


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


def store(parts: Parts, user: Principal, import_id: UUID, path: str, received: Received) -> ImportedFile:
    """Records and sends a checked file, in this order: an object's content is settled before a byte of it is stored.

    So a file that arrives late, after the import was completed, can't replace what the version's manifest names.
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
    parts.objects.upload_file(received.path, f"{_prefix(import_id)}/{path}", sha256=received.sha256)
    return ImportedFile(path=path, bytes=received.bytes, sha256=received.sha256)


def complete(parts: Parts, user: Principal, import_id: UUID) -> tuple[ModelVersionDetail, bool]:
    """Makes the files a version. Raises InvalidInput when files are missing or were not stored."""
    prefix = _prefix(import_id)
    with parts.database.unit_of_work() as work:
        if work.models.open_import(user.reach("models.write"), import_id) is None:
            made = work.models.find_by_prefix(user.reach("models.write"), prefix)
            if made is None:
                raise not_found(f"open import {import_id}")
            return detail_of(made), False
        files = work.models.import_files(import_id)
    _check_complete(parts, prefix, files)
    paths = {file.path for file in files}
    task = task_of_model(_document(parts, prefix, _CONFIG), paths) if _CONFIG in paths else None
    with parts.database.unit_of_work() as work:
        row = work.models.open_import(user.reach("models.write"), import_id, lock=True)
        if row is None or work.models.import_files(import_id) != files:
            raise ApiError(409, "The import changed meanwhile. Ask again.", code="import_changed")
        manifest = Manifest(artifact="model", task=task, files=files, report={"source": "import"})
        version = work.models.add_version(row.owner_id, row.name, manifest=manifest, prefix=prefix)
        work.models.complete_import(row)
        return detail_of(version), True


def _check_complete(parts: Parts, prefix: str, files: tuple[ManifestFile, ...]) -> None:
    paths = {file.path for file in files}
    if not any(path.endswith((".safetensors", ".gguf")) for path in paths):
        raise _missing("model.safetensors", "there are no weights.")
    if _CONFIG not in paths and not any(path.endswith(".gguf") for path in paths):
        raise _missing(_CONFIG, "the model's configuration is missing.")
    for file in files:
        try:
            stored = parts.objects.stat(f"{prefix}/{file.path}").bytes
        except ObjectNotFound:
            stored = -1
        if stored != file.bytes:
            raise _missing(file.path, "the file was announced but not stored.")
    if _INDEX in paths:
        _check_shards(parts, prefix, paths)


def _check_shards(parts: Parts, prefix: str, paths: set[str]) -> None:
    weight_map = _document(parts, prefix, _INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise _missing(_INDEX, "the index has no weight_map.")
    for shard in {str(name) for name in weight_map.values()} - paths:
        raise _missing(shard, "the index names a file that was not sent.")


def _document(parts: Parts, prefix: str, path: str) -> dict[str, Any]:
    document = parse_json_file(parts.objects.get_bytes(f"{prefix}/{path}", max_bytes=DOCUMENT_BYTES_MAX))
    return document if isinstance(document, dict) else {}


def _missing(path: str, message: str) -> InvalidInput:
    return InvalidInput([Problem(file=path, message=message, remedy="Send it, then complete the import.")])


def _prefix(import_id: UUID) -> str:
    return f"models/{import_id}"
