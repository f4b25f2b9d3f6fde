"""Deployments are desired state: this writes what is wanted, an inference worker makes it so and reports back."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from api.deployments.schemas import Deployment, DeploymentList, DeploymentRequest, deployment_of
from api.errors import not_found
from api.parts import Parts
from api.references.freezing import freeze_base, frozen_version, weights_bytes
from api.references.hub import resolve
from api.references.model_files import known_shape, small_files
from api.references.names import maker_of
from jobspecs.engines import EXTERNAL, ExternalEngine, WeightsFormat, format_of, origin_of, task_of
from jobspecs.frozen import FrozenHubModel, FrozenRegistryModel
from jobspecs.manifest import Manifest
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import Reference, parse_reference
from jobspecs.rights import Principal, Reach
from jobspecs.tasks import SERVED_TASKS, TEXT_GENERATION
from scheduling.engine_choice import Choice, Served, choose_engine
from scheduling.estimates.estimating import TYPICAL_WEIGHTS_BYTES
from scheduling.estimates.serving import encoder_bytes, gguf_bytes, language_model_bytes
from scheduling.estimates.shapes import typical_shape
from scheduling.serving_admission import Needs, why_it_cannot_stay, why_no_host_serves
from storage.database import UnitOfWork
from storage.settings import EXTERNAL_ENGINES
from storage.tables import DeploymentRow, ModelVersionRow

GIB = 1024**3


@dataclass(frozen=True)
class _Share:
    """What one host serves of a deployment."""

    replicas: int
    needs: Needs


@dataclass(frozen=True)
class _Model:
    """What is served: a version of the registry, and for an adapter what it changes."""

    reference: Reference
    manifest: Manifest
    frozen: FrozenRegistryModel
    base: FrozenRegistryModel | FrozenHubModel | None


def want(parts: Parts, user: Principal, reference: Reference, request: DeploymentRequest) -> Deployment:
    """Creates or changes the deployment. Asking for what is wanted already changes nothing, unless it had failed.

    Raises InvalidInput for what no host could serve, and for what the host that serves it now has no room for.
    """
    reach = user.reach("deployments.write")
    with parts.database.unit_of_work() as work:
        maker = maker_of(work, reach, reference)
    if request.external is not None:
        return _want_external(parts, reach, maker, reference, request.external)
    model = _model(parts, user, parse_reference(request.model) if request.model else reference)
    # Waits for the object store and the hub: outside of transactions.
    shares = _shares(request, _memory_bytes(parts, model, request))
    with parts.database.unit_of_work() as work:
        version = _version(work, user, model.reference)
        hosts = work.hosts.known()
        choice = _choose(model, request, shares[0].replicas, [frozenset(host.engines) for host in hosts])
        if problem := why_no_host_serves(shares[0].needs, [Needs(host.memory_bytes, host.gpus) for host in hosts]):
            raise InvalidInput([problem])
        present = work.deployments.find_shares(reach, reference.name, owner=reference.owner)
        # First the hosts, then the deployment, as its workers do: the other way round both would wait for ever.
        for host_name in sorted({row.host for row in present if row.host is not None}):
            work.hosts.lock(host_name)
        for number, share in enumerate(shares):
            row = work.deployments.find(reach, reference.name, owner=reference.owner, share=number, lock=True)
            before = Needs(row.memory_bytes, row.gpus) if row is not None else Needs(0)
            if row is not None and _is_wanted_already(row, version, choice, share):
                continue
            row = work.deployments.want(
                maker,
                reference.name,
                share=number,
                model_version_id=version.id,
                engine=choice.engine.name,
                engine_reason=choice.reason,
                task=task_of(model.manifest),
                replicas=share.replicas,
                memory_bytes=share.needs.memory_bytes,
                gpus=share.needs.gpus,
            )
            if not share.needs.fit(before):
                _make_room(work, row, share.needs)
        work.deployments.unwant(reach, reference.name, owner=reference.owner, shares_from=len(shares))
        return deployment_of(work.deployments.find_shares(reach, reference.name, owner=reference.owner))


def _shares(request: DeploymentRequest, memory_bytes: int) -> list[_Share]:
    """What each host serves; the first ones have one replica more where they don't divide."""
    counts = _divided(request.replicas, request.hosts)
    gpus = _divided(request.gpus, request.hosts)
    return [
        _Share(count, Needs(memory_bytes * count // request.replicas, gpus[number]))
        for number, count in enumerate(counts)
    ]


def _divided(number: int, parts: int) -> list[int]:
    return [number // parts + (part < number % parts) for part in range(parts)]


def _want_external(
    parts: Parts, reach: Reach, maker: UUID, reference: Reference, external: ExternalEngine
) -> Deployment:
    """Registers an engine that somebody else runs. Raises InvalidInput for an address that no administrator allows."""
    if origin_of(external.url) not in parts.settings.external_engines:
        raise InvalidInput(
            [
                Problem(
                    field="external.url",
                    message=f"engines at {origin_of(external.url)} are not allowed on this platform.",
                    remedy=f"An administrator allows them: {EXTERNAL_ENGINES}={origin_of(external.url)}",
                )
            ]
        )
    stored = external.model_dump(mode="json")
    with parts.database.unit_of_work() as work:
        row = work.deployments.find(reach, reference.name, owner=reference.owner, lock=True)
        if row is None or row.external != stored or not row.wanted or row.state == "failed":
            row = work.deployments.want(
                maker,
                reference.name,
                model_version_id=None,
                engine=EXTERNAL.name,
                engine_reason="Somebody else runs it.",
                external=stored,
                task=external.task,
                replicas=1,
                memory_bytes=0,
            )
        work.deployments.unwant(reach, reference.name, owner=reference.owner, shares_from=1)
        return deployment_of([row])


def _choose(model: _Model, request: DeploymentRequest, replicas: int, hosts: list[frozenset[str]]) -> Choice:
    served = Served(
        format_of(model.manifest),
        task_of(model.manifest) or "",
        is_adapter=model.base is not None,
        gpus=request.gpus,
        replicas=replicas,
    )
    choice = choose_engine(served, hosts, request.engine)
    if isinstance(choice, Problem):
        raise InvalidInput([choice])
    return choice


def _make_room(work: UnitOfWork, row: DeploymentRow, needs: Needs) -> None:
    """Sees whether what is wanted more of still fits the host that has claimed the deployment.

    Where it doesn't, one that answers stays as it is, and InvalidInput says why: nobody's requests end because somebody
    asked for more memory. One that does not answer loses nothing, and goes to whatever host has room.
    """
    if row.host is None:
        return
    work.hosts.lock(row.host)
    room = work.hosts.room(row.host, beside=row.id)
    problem = why_it_cannot_stay(needs, row.host, Needs(room.memory_bytes, room.gpus)) if room is not None else None
    if problem is not None and row.endpoint is not None:
        raise InvalidInput([problem])
    if problem is not None:
        work.deployments.place_anew(row)


def list_deployments(parts: Parts, user: Principal) -> DeploymentList:
    with parts.database.unit_of_work() as work:
        rows = work.deployments.list(user.reach("deployments.read"))
        return DeploymentList(data=[deployment_of(work.deployments.shares(row)) for row in rows])


def get(parts: Parts, user: Principal, reference: Reference) -> Deployment:
    with parts.database.unit_of_work() as work:
        row = work.deployments.find(user.reach("deployments.read"), reference.name, owner=reference.owner)
        if row is None:
            raise not_found(f"deployment {reference}")
        return deployment_of(work.deployments.shares(row))


def unwant(parts: Parts, user: Principal, reference: Reference) -> Deployment | None:
    """Asks for its end; None when it is gone at once because no worker held it."""
    reach = user.reach("deployments.write")
    with parts.database.unit_of_work() as work:
        if not work.deployments.unwant(reach, reference.name, owner=reference.owner):
            raise not_found(f"deployment {reference}")
        row = work.deployments.find(reach, reference.name, owner=reference.owner)
        return deployment_of(work.deployments.shares(row)) if row is not None else None


def _version(work: UnitOfWork, user: Principal, reference: Reference) -> ModelVersionRow:
    version = work.models.find(user.reach("models.read"), reference) if reference.source == "registry" else None
    if version is None:
        raise _refused(f"you have no model {reference} in the registry.", "`eigenwerk models` lists them.")
    return version


def _check_task(manifest: Manifest, reference: Reference) -> None:
    if task_of(manifest) not in SERVED_TASKS:
        what = f"serves {manifest.task}" if manifest.task else "is a bare model without a head for a task"
        raise _refused(
            f"{reference} {what}; what can be served is {', '.join(SERVED_TASKS)}.",
            "Train a model for one of these from it first: eigenwerk submit spec.yaml",
        )


def _model(parts: Parts, user: Principal, reference: Reference) -> _Model:
    """Raises InvalidInput for what can't be served, and for an adapter whose base is gone."""
    with parts.database.unit_of_work() as work:
        version = _version(work, user, reference)
        manifest = Manifest.model_validate(version.manifest)
        _check_task(manifest, reference)
        exactly = Reference(owner=version.model.owner.name, name=version.model.name, version=version.version)
        base = freeze_base(work, user, "model", reference, manifest.base) if manifest.base is not None else None
        return _Model(exactly, manifest, frozen_version(work, version), base)


def _memory_bytes(parts: Parts, model: _Model, request: DeploymentRequest) -> int:
    if request.memory_gib is not None:
        return int(request.memory_gib * GIB)
    stored = model.manifest.bytes_total + _base_bytes(parts, model)
    if format_of(model.manifest) is WeightsFormat.gguf:
        return request.replicas * gguf_bytes(model.manifest.bytes_total)
    if model.manifest.task != TEXT_GENERATION.name:
        return request.replicas * encoder_bytes(stored)
    objects = parts.objects.within(parts.settings.check_seconds_max)
    shape = known_shape(parts, small_files(parts, objects, model.base or model.frozen)) or typical_shape(stored)
    # An adapter is merged into the weights that it changes, and is there beside them meanwhile.
    adapter_bytes = 2 * model.manifest.bytes_total if model.base is not None else 0
    return request.replicas * (language_model_bytes(shape, on_gpu=request.gpus > 0) + adapter_bytes)


def _base_bytes(parts: Parts, model: _Model) -> int:
    """Weights of the model that an adapter changes; 0 for any other model."""
    if model.manifest.base is None or model.base is None:
        return 0
    if isinstance(model.base, FrozenRegistryModel):
        return weights_bytes(model.base)
    found = resolve(parts.hub, parts.settings, parse_reference(model.manifest.base.reference))
    return found.weights_bytes or TYPICAL_WEIGHTS_BYTES


def _is_wanted_already(row: DeploymentRow, version: ModelVersionRow, choice: Choice, share: _Share) -> bool:
    same = (row.model_version_id, row.engine, row.replicas, row.memory_bytes, row.gpus) == (
        version.id,
        choice.engine.name,
        share.replicas,
        share.needs.memory_bytes,
        share.needs.gpus,
    )
    return same and row.wanted and row.state != "failed"


def _refused(message: str, remedy: str) -> InvalidInput:
    return InvalidInput([Problem(field="model", message=message, remedy=remedy)])
