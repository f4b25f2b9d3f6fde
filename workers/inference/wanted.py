"""What is wanted of a deployment on this host, and what is true of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from jobspecs.engines import ExternalEngine
from jobspecs.manifest import Manifest
from jobspecs.pieces import StoredFile
from scheduling.estimates.serving import adapter_bytes
from storage.tables import DeploymentRow, ModelVersionRow
from workers.inference.pulls import Base, StoredModel, cached_name


@dataclass(frozen=True)
class Wanted:
    """What should be served; a generation of the deployment."""

    deployment_id: UUID
    generation: int
    #: `owner/name@version`.
    model: str
    #: None for an engine that somebody else runs.
    stored: StoredModel | None
    task: str
    engine: str
    replicas: int
    #: Main memory of each replica.
    memory_bytes: int
    #: GPUs of all replicas together; without any they compute on the CPU.
    gpu_ids: tuple[str, ...] = ()
    #: Tokens of one answer with its prompt, and answers at once; None: as the engine likes.
    context_tokens: int | None = None
    sequences: int | None = None
    #: For adapters: what they change.
    base: Base | None = None
    external: ExternalEngine | None = None
    #: Served beside the model, over its weights: `owner/name@version`, and what it is.
    adapters: tuple[tuple[str, StoredModel], ...] = ()

    @classmethod
    def of(cls, row: DeploymentRow, files: Mapping[UUID, tuple[StoredFile, ...]], base: Base | None) -> Wanted:
        """`files`: of the versions that it serves, by their ids. `base`: what the model changes."""

        def stored(version: ModelVersionRow) -> StoredModel:
            return StoredModel(files[version.id], Manifest.model_validate(version.manifest))

        return cls(
            deployment_id=row.id,
            generation=row.generation,
            model=row.served,
            stored=stored(row.model_version) if row.model_version is not None else None,
            task=row.served_task or "",
            external=ExternalEngine.model_validate(row.external) if row.external else None,
            engine=row.engine,
            replicas=row.replicas,
            memory_bytes=row.memory_bytes // row.replicas,
            context_tokens=row.context_tokens,
            sequences=row.sequences,
            gpu_ids=tuple(row.gpu_ids),
            base=base,
            adapters=tuple((adapter.full_name, stored(adapter)) for adapter in row.adapters),
        )

    @property
    def digest(self) -> str:
        """Of the model's manifest; empty without one."""
        return self.stored.manifest.digest if self.stored else ""

    @property
    def cached(self) -> set[str]:
        """The model folders that it needs."""
        beside = (adapter.manifest.digest for _, adapter in self.adapters)
        return {name for name in (self.digest, cached_name(self.base), *beside) if name}

    def served_by(self, other: Wanted) -> bool:
        """Whether the engines of `other` serve this one as well."""
        same = self._beside() == other._beside() and self.memory_bytes == other.memory_bytes
        return same and self._alone() == other._alone()

    def differs_in_adapters(self, other: Wanted) -> bool:
        """Whether the engines of `other` serve this one once they have its adapters in place of theirs.

        What the memory leaves for keys and values is what they were started with; less adapters in as much memory leave
        more.
        """
        same = self._beside() != other._beside() and self._alone() == other._alone()
        room, others_room = self._room_bytes(), other._room_bytes()
        return same and (room == others_room or (room > others_room and self.memory_bytes == other.memory_bytes))

    def _alone(self) -> tuple[object, ...]:
        what = (self.model, self.digest, self.external)
        return *what, self.engine, self.replicas, self.gpu_ids, self.context_tokens, self.sequences

    def _beside(self) -> frozenset[tuple[str, str]]:
        return frozenset((name, adapter.manifest.digest) for name, adapter in self.adapters)

    def _room_bytes(self) -> int:
        return self.memory_bytes - sum(adapter_bytes(adapter.manifest.bytes_total) for _, adapter in self.adapters)


@dataclass(frozen=True)
class Observed:
    """What is true of a deployment now, as the database should show it."""

    state: str
    reason: str | None = None
    message: str | None = None
    endpoint: str | None = None
    endpoint_key: str | None = field(default=None, repr=False)
    endpoint_model: str | None = None

    @classmethod
    def shown_by(cls, row: DeploymentRow) -> Observed:
        """What the row says of its host; an endpoint of the host that it is taken over from is none of its own."""
        told = row.state, row.reason, row.message
        own = (row.endpoint, row.endpoint_key, row.endpoint_model) if row.moving_from is None else (None, None, None)
        return cls(*told, *own)
