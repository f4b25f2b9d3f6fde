"""The small files of a base model that tell how it reads and how large it is: a few kilobytes to a few megabytes."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from uuid import UUID

import httpx
from pydantic import TypeAdapter

from api.foreign_files import FILE_LIMITS
from api.inspection_cache import new_folder
from api.parts import Parts
from api.references.hub import fetch_file
from api.registry.imported_files import CONFIG, CONFIG_BYTES_MAX
from corpus.checks.reader import READ_FILES
from corpus.confinement.confinement import ConfinementUnavailable, Stopped
from corpus.confinement.process import Overran
from jobspecs.frozen import FrozenHubModel, FrozenRegistryModel
from scheduling.estimates.gguf import GgufFacts
from scheduling.estimates.shapes import ModelShape
from storage.hub_tokens import hub_token
from storage.objects import ObjectStore, ObjectStoreError

log = logging.getLogger(__name__)

#: Larger ones are left to the worker.
_FILE_BYTES_MAX = 64 * 1024 * 1024
#: Of a hub, what it usually keeps outside of its storage for large files.
_HUB_FILES = (CONFIG, "tokenizer_config.json")
_SHAPE = TypeAdapter(ModelShape | None)
_GGUF = TypeAdapter(GgufFacts | None)
#: Of a GGUF: what tells its size stands before the vocabulary, in some hundred bytes.
_HEAD_BYTES = 1024 * 1024
_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$")


def small_files(
    parts: Parts, objects: ObjectStore, model: FrozenRegistryModel | FrozenHubModel, user_id: UUID | None = None
) -> Path | None:
    """A folder with those of READ_FILES that the model has, kept for the next request. None: they can't be had now.

    `user_id`: whose token of the hub is used, if there is one.
    Waits for the object store or the hub: not for use inside a transaction.
    """
    hub = isinstance(model, FrozenHubModel)
    name = f"{model.repository}@{model.revision}" if isinstance(model, FrozenHubModel) else model.digest
    token = own_hub_token(parts, user_id) if hub and user_id is not None else None
    # What one user's token opens is nobody else's.
    name = f"{name}--{user_id}" if token is not None else name
    if (kept := parts.inspections.model_folder(name)) is not None:
        return kept
    folder = new_folder(parts.spool.folder)
    try:
        _fetch(parts, objects, model, folder, token)
    except (ObjectStoreError, httpx.HTTPError, OSError) as error:
        log.warning("the small files of %s can't be had: %s", f"hub:{name}" if hub else name[:12], error)
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return parts.inspections.keep_model_folder(name, folder)


def own_hub_token(parts: Parts, user_id: UUID) -> str | None:
    """The user's own token of the hub."""
    with parts.database.unit_of_work() as work:
        return hub_token(work, parts.secret_box, user_id)


def known_shape(parts: Parts, folder: Path | None) -> ModelShape | None:
    """What config.json tells of the model's size; None where it is absent, too large, or tells nothing that can be.

    It is read in a process of its own, once: 4 MB took 0.3 s of this one's only interpreter each time.
    """
    path = folder / CONFIG if folder is not None else None
    if path is None or not path.is_file() or path.stat().st_size > CONFIG_BYTES_MAX:
        return None
    return parts.inspections.shape(path, lambda: _shape(parts, path))


def known_gguf(parts: Parts, objects: ObjectStore, model: FrozenRegistryModel) -> GgufFacts | None:
    """What the model's GGUF tells of its size; None where its beginning does not tell it, or can't be had now.

    Waits for the object store: not for use inside a transaction.
    """
    files = [file for file in model.stored if file.path.endswith(".gguf") and not _LATER_PART.search(file.path)]
    if not files:
        return None
    largest = max(files, key=lambda file: file.bytes)
    folder = new_folder(parts.spool.folder)
    path = folder / "head.gguf"
    try:
        with objects.open_stored(largest, 0, min(largest.bytes, _HEAD_BYTES)) as stream, path.open("wb") as head:
            head.writelines(stream)
        return _GGUF.validate_python(parts.confinement.run("gguf", {"path": path.resolve()}, FILE_LIMITS))
    except (ObjectStoreError, OSError, Overran, Stopped, ConfinementUnavailable) as error:
        log.warning("the beginning of %s can't be read: %s", largest.path, error)
        return None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _shape(parts: Parts, path: Path) -> ModelShape | None:
    try:
        return _SHAPE.validate_python(parts.confinement.run("shape", {"path": path.resolve()}, FILE_LIMITS))
    except (Overran, Stopped, ConfinementUnavailable) as error:
        log.warning("a model's config.json was not read: %s", error)
        return None


def _fetch(
    parts: Parts,
    objects: ObjectStore,
    model: FrozenRegistryModel | FrozenHubModel,
    folder: Path,
    token: str | None,
) -> None:
    if isinstance(model, FrozenHubModel):
        for name in _HUB_FILES:
            if (content := fetch_file(parts.hub, parts.settings, model, name, token)) is not None:
                (folder / name).write_bytes(content)
        return
    for file in model.stored:
        if file.path in READ_FILES and file.bytes <= _FILE_BYTES_MAX:
            objects.download_stored(file, folder / file.path)
