"""Freezes the references of a spec: what they mean now is what the job reads, whatever is pushed or moved later."""

from __future__ import annotations

from dataclasses import dataclass

from api.authentication import Principal
from jobspecs.frozen import FrozenDataset, FrozenRegistryModel
from jobspecs.manifest import Manifest
from jobspecs.problems import InvalidInput, Problem
from jobspecs.profile import DatasetProfile
from jobspecs.references import Reference
from storage.database import UnitOfWork


@dataclass(frozen=True)
class PinnedDataset:
    frozen: FrozenDataset
    profile: DatasetProfile


def freeze_dataset(work: UnitOfWork, user: Principal, reference: Reference) -> PinnedDataset:
    """Raises InvalidInput when the user has no such data set or version."""
    selector_known = reference.alias in (None, "latest")
    row = None
    if reference.owner in (None, user.name) and selector_known:
        row = work.datasets.find(user.name, reference.name, reference.version)
    if row is None:
        raise _unknown("dataset", f"you have no data set {reference}.", "Push it: eigenwerk datasets push FILE")
    frozen = FrozenDataset(
        version_id=row.id,
        owner=user.name,
        name=row.dataset.name,
        version=row.version,
        file_name=row.file_name,
        key=row.key,
        bytes=row.bytes,
        sha256=row.sha256,
    )
    return PinnedDataset(frozen, DatasetProfile.model_validate(row.profile))


def freeze_model(work: UnitOfWork, user: Principal, reference: Reference) -> FrozenRegistryModel:
    """Raises InvalidInput when the user has no such model, version or alias."""
    row = work.models.find(user.name, reference) if reference.owner in (None, user.name) else None
    if row is None:
        raise _unknown(
            "model",
            f"you have no model {reference}.",
            "Import it: eigenwerk models import DIR --name NAME, or take one from the hub: hub:org/name",
        )
    return FrozenRegistryModel(
        version_id=row.id,
        owner=user.name,
        name=row.model.name,
        version=row.version,
        digest=row.digest,
        prefix=row.prefix,
        files=Manifest.model_validate(row.manifest).files,
    )


def weights_bytes(model: FrozenRegistryModel) -> int:
    return sum(file.bytes for file in model.files if file.path.endswith(".safetensors"))


def _unknown(field: str, message: str, remedy: str) -> InvalidInput:
    return InvalidInput([Problem(field=field, message=message, remedy=remedy)])
