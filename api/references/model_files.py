"""The small files of a base model that tell how it reads and how large it is: a few kilobytes to a few megabytes."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import httpx

from api.inspection_cache import new_folder
from api.parts import Parts
from api.references.hub import fetch_file
from api.registry.imported_files import CONFIG_BYTES_MAX
from corpus.checks.reader import READ_FILES
from jobspecs.frozen import FrozenHubModel, FrozenRegistryModel
from storage.objects import ObjectStore, ObjectStoreError

log = logging.getLogger(__name__)

#: Larger ones are left to the worker.
_FILE_BYTES_MAX = 64 * 1024 * 1024
#: Of a hub, what it usually keeps outside of its storage for large files.
_HUB_FILES = ("config.json", "tokenizer_config.json")


def small_files(parts: Parts, objects: ObjectStore, model: FrozenRegistryModel | FrozenHubModel) -> Path | None:
    """A folder with those of READ_FILES that the model has, kept for the next request. None: they can't be had now.

    Waits for the object store or the hub: not for use inside a transaction.
    """
    hub = isinstance(model, FrozenHubModel)
    name = f"{model.repository}@{model.revision}" if isinstance(model, FrozenHubModel) else model.digest
    if (kept := parts.inspections.model_folder(name)) is not None:
        return kept
    folder = new_folder(parts.spool.folder)
    try:
        _fetch(parts, objects, model, folder)
    except (ObjectStoreError, httpx.HTTPError, OSError) as error:
        log.warning("the small files of %s can't be had: %s", f"hub:{name}" if hub else name[:12], error)
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return parts.inspections.keep_model_folder(name, folder)


def config_of(folder: Path | None) -> dict[str, Any]:
    """The content of config.json; empty where it is absent, too large or no JSON object."""
    path = folder / "config.json" if folder is not None else None
    if path is None or not path.is_file() or path.stat().st_size > CONFIG_BYTES_MAX:
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        log.info("a model's config.json is not JSON: %s", error)
        return {}
    return content if isinstance(content, dict) else {}


def _fetch(parts: Parts, objects: ObjectStore, model: FrozenRegistryModel | FrozenHubModel, folder: Path) -> None:
    if isinstance(model, FrozenHubModel):
        for name in _HUB_FILES:
            if (content := fetch_file(parts.hub, parts.settings, model, name)) is not None:
                (folder / name).write_bytes(content)
        return
    for file in model.files:
        if file.path in READ_FILES and file.bytes <= _FILE_BYTES_MAX:
            key = f"{model.prefix}/{file.path}"
            objects.download_file(key, folder / file.path, sha256=file.sha256, bytes_total=file.bytes)
