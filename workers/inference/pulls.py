"""What one deployment needs on this host: its model's files and, for an adapter, those of the model that it changes."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from jobspecs.frozen import FrozenHubModel
from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest, ModelOrigin
from jobspecs.pieces import StoredFile
from jobspecs.references import parse_reference
from jobspecs.rights import Reach
from storage.database import DatabaseUnavailable, UnitOfWork
from storage.objects import ObjectCorrupt, ObjectNotFound, ObjectStoreError
from workers.engines.interface import EngineFailure, ServedAdapter
from workers.engines.verification import check_files
from workers.files.hub import HubAccess, HubUnavailable
from workers.inference.model_folders import ModelFolders
from workers.run.context import RunFailed


@dataclass(frozen=True)
class StoredModel:
    """A registered model: where its files are, and what they are."""

    files: tuple[StoredFile, ...]
    manifest: Manifest


@dataclass(frozen=True)
class HubBase:
    """A model of a hub, fetched with what its deployment's owner may read there."""

    model: FrozenHubModel
    owner_id: UUID


@dataclass(frozen=True)
class MissingBase:
    """The model that an adapter changes can't be had; `message` says why."""

    message: str


#: What an adapter changes.
Base = StoredModel | HubBase | MissingBase
#: The access of an owner to the hub; None without a token. Asked when it is needed, outside of transactions.
HubAccessOf = Callable[[UUID], HubAccess | None]


@dataclass(frozen=True)
class Pulled:
    """Folders that engines read."""

    model_dir: Path
    base_dir: Path | None
    adapters: tuple[ServedAdapter, ...] = ()


def find_base(work: UnitOfWork, owners: Sequence[UUID], origin: ModelOrigin) -> Base:
    """The model that an adapter names: by its digest, whatever its name means now.

    `owners`: whoever deployed the adapter first, then whose it is. That the one may read what is the other's was seen
    when it was deployed; private since, it is served on.
    """
    if origin.digest is None:
        reference = parse_reference(origin.reference)
        model = FrozenHubModel(repository=f"{reference.owner}/{reference.name}", revision=reference.alias or "")
        return HubBase(model, owners[0])
    row = work.models.find_by_digest(Reach(owners[0], frozenset(owners), shared=True), origin.digest)
    if row is None:
        return MissingBase(
            f"This is an adapter for {origin.reference}, and the registry has no model with its digest "
            f"{origin.digest[:12]}… any more. Import that base model again."
        )
    return StoredModel(work.blobs.files_of(row), Manifest.model_validate(row.manifest))


def cached_name(base: Base | None) -> str | None:
    """The name of the base's model folder; None when it has none."""
    if isinstance(base, StoredModel):
        return base.manifest.digest
    return ModelFolders.name_of(base.model, base.owner_id) if isinstance(base, HubBase) else None


def pull(
    folders: ModelFolders,
    model: StoredModel,
    base: Base | None,
    adapters: Sequence[tuple[str, StoredModel]] = (),
    *,
    hub_access: HubAccessOf = lambda owner_id: None,
) -> Pulled:
    """Fetches what is not here yet; `adapters` by name, which are served beside the model.

    Raises what `ModelFolders.pull`, `pull_hub` and `hub_access` raise; RunFailed without a base.
    """
    model_dir = folders.pull(model.files, model.manifest)
    if isinstance(base, MissingBase):
        raise RunFailed(Reason.invalid_model, base.message)
    if base is None:
        return Pulled(model_dir, None, tuple(_pulled(folders, *adapter) for adapter in adapters))
    if isinstance(base, HubBase):
        return Pulled(model_dir, folders.pull_hub(base.model, base.owner_id, hub_access(base.owner_id)))
    return Pulled(model_dir, folders.pull(base.files, base.manifest))


def _pulled(folders: ModelFolders, name: str, adapter: StoredModel) -> ServedAdapter:
    folder = folders.pull(adapter.files, adapter.manifest)
    # An engine that serves already takes it as it is.
    check_files(folder, adapter.manifest.digest)
    return ServedAdapter(name, folder, adapter.manifest.digest, adapter.manifest.bytes_total)


def is_passing(error: BaseException) -> bool:
    """Whether the same pull may work a little later."""
    if isinstance(error, HubUnavailable | DatabaseUnavailable):
        return True
    return isinstance(error, ObjectStoreError) and not isinstance(error, ObjectCorrupt | ObjectNotFound)


def failure_of(error: BaseException) -> EngineFailure:
    """Why a pull failed, for good or (`is_passing`) for the moment."""
    if isinstance(error, RunFailed):
        return EngineFailure(error.reason, error.message)
    if is_passing(error):
        return EngineFailure(Reason.storage_unavailable, str(error))
    if isinstance(error, ObjectCorrupt | ObjectNotFound):
        return EngineFailure(Reason.corrupt_artifact, str(error))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EngineFailure(Reason.disk_full, f"The inference worker's scratch disk is full: {error}")
    return EngineFailure(Reason.internal_error, f"{type(error).__name__}: {error}")
