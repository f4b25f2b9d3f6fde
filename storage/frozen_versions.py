"""Versions that are registered here as inputs of a job or deployment: by digest, and with where their bytes are.

Found in the reach of whoever asked, or of the owner for whom the platform itself goes on.
"""

from __future__ import annotations

from jobspecs.frozen import FrozenDataset, FrozenHubModel, FrozenRegistryModel
from jobspecs.manifest import Manifest, ModelOrigin
from jobspecs.provenance import Provenance
from jobspecs.references import parse_reference
from jobspecs.rights import Reach
from scheduling.estimates.estimating import GGUF_EXPANSION
from storage.database import UnitOfWork
from storage.tables import DatasetVersionRow, ModelVersionRow


def frozen_dataset(row: DatasetVersionRow) -> FrozenDataset:
    return FrozenDataset(
        version_id=row.id,
        owner=row.dataset.owner.name,
        name=row.dataset.name,
        version=row.version,
        file_name=row.file_name,
        key=row.key,
        bytes=row.bytes,
        sha256=row.sha256,
        header=tuple(row.header) if row.header is not None else None,
        dialect=row.how_to_read(),
        provenance=Provenance(origin=row.origin, license=row.license),
    )


def frozen_version(work: UnitOfWork, row: ModelVersionRow) -> FrozenRegistryModel:
    files = work.blobs.files_of(row)
    return FrozenRegistryModel(
        version_id=row.id,
        owner=row.model.owner.name,
        name=row.model.name,
        version=row.version,
        digest=row.digest,
        prefix=row.prefix,
        files=Manifest.model_validate(row.manifest).files,
        pieces={} if row.prefix is not None else {file.path: file.pieces for file in files},
    )


def frozen_base(work: UnitOfWork, reach: Reach, base: ModelOrigin) -> FrozenRegistryModel | FrozenHubModel | None:
    """The model that an adapter changes: by digest, whatever its name means now. None: there is none in the reach."""
    if base.digest is None:
        wanted = parse_reference(base.reference)
        return FrozenHubModel(repository=f"{wanted.owner}/{wanted.name}", revision=wanted.alias or "")
    row = work.models.find_by_digest(reach, base.digest)
    return frozen_version(work, row) if row is not None else None


def weights_bytes(model: FrozenRegistryModel) -> int:
    """Bytes of the stored weights, as the memory estimate wants them."""
    stored = sum(file.bytes for file in model.files if file.path.endswith(".safetensors"))
    return stored or GGUF_EXPANSION * max(
        (file.bytes for file in model.files if file.path.endswith(".gguf")), default=0
    )
