"""Deployments are desired state: this writes what is wanted, an inference worker makes it so and reports back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

from api.deployments.adapters import check_adapters
from api.deployments.memory import reckon
from api.deployments.schemas import Deployment, DeploymentList, DeploymentRequest
from api.deployments.traffic import shown, want_candidate
from api.errors import not_found
from api.parts import Parts
from api.references.freezing import freeze_base
from api.references.names import maker_of
from jobspecs.engines import EXTERNAL, ExternalEngine, origin_of
from jobspecs.frozen import FrozenHubModel, FrozenRegistryModel
from jobspecs.manifest import Manifest
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import Reference, parse_reference
from jobspecs.rights import Principal, Reach
from storage.database import UnitOfWork
from storage.frozen_versions import frozen_version
from storage.repositories.serving.candidates import candidate_name
from storage.serving import Wish, check_task, choose, serve
from storage.settings import EXTERNAL_ENGINES
from storage.tables import ModelVersionRow

GIB = 1024**3


@dataclass(frozen=True)
class _Model:
    """What is served: a version of the registry, and for an adapter what it changes."""

    reference: Reference
    manifest: Manifest
    frozen: FrozenRegistryModel
    base: FrozenRegistryModel | FrozenHubModel | None


def want(
    parts: Parts, user: Principal, reference: Reference, request: DeploymentRequest, *, asleep: bool = False
) -> Deployment:
    """Creates or changes the deployment. Asking for what is wanted already changes nothing, unless it had failed.

    `asleep`: it sleeps from its first moment, unless somebody has woken it or it answers already.

    Raises InvalidInput for what no host could serve, and for what the host that serves it now has no room for.
    """
    reach = user.reach("deployments.write")
    with parts.database.unit_of_work() as work:
        maker = maker_of(work, reach, reference)
        engines = [frozenset(host.engines) for host in work.hosts.known()]
    if request.external is not None:
        return _want_external(parts, reach, maker, reference, request.external)
    percent = request.traffic_percent
    model = _model(parts, user, parse_reference(request.model) if request.model else reference)
    with parts.database.unit_of_work() as work:
        adapters = check_adapters(work, user, model.manifest, request.adapters)
    # Waits for the object store and the hub: outside of transactions.
    wish = Wish(
        engine=request.engine,
        replicas=request.replicas,
        hosts=request.hosts,
        gpus=request.gpus,
        memory_bytes=0,
        adapter_ids=frozenset(adapters),
        idle_after_s=request.idle_after_s,
        context_tokens=request.context_tokens,
        sequences=request.sequences,
    )
    engine = choose(model.manifest, wish, -(-request.replicas // request.hosts), engines).engine.name
    reckoned = reckon(
        parts, model.manifest, model.frozen, model.base, request, engine, adapters_bytes=sum(adapters.values())
    )
    wish = replace(wish, memory_bytes=reckoned.memory_bytes, memory=reckoned.each)
    with parts.database.unit_of_work() as work:
        version = _version(work, user, model.reference)
        if percent is not None:
            return want_candidate(work, reach, maker, reference, version, wish, percent)
        if asleep:
            # One after the other: of those that ask at the same moment the first makes it, the others find it.
            work.models.lock(version.model)
        row = serve(work, reach, maker, reference, version, wish)[0]
        if asleep and row.woken_at is None and row.endpoint is None:
            work.sleep.put_to_sleep(maker, row.name)
        return shown(work, row)


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
        work.deployments.unwant(reach, candidate_name(reference.name), owner=reference.owner)
        return shown(work, row)


def list_deployments(parts: Parts, user: Principal) -> DeploymentList:
    with parts.database.unit_of_work() as work:
        rows = work.deployments.list(user.reach("deployments.read"))
        return DeploymentList(data=[shown(work, row) for row in rows])


def get(parts: Parts, user: Principal, reference: Reference) -> Deployment:
    with parts.database.unit_of_work() as work:
        row = work.deployments.find(user.reach("deployments.read"), reference.name, owner=reference.owner)
        if row is None:
            raise not_found(f"deployment {reference}")
        return shown(work, row)


def unwant(parts: Parts, user: Principal, reference: Reference) -> Deployment | None:
    """Asks for its end; None when it is gone at once because no worker held it."""
    reach = user.reach("deployments.write")
    with parts.database.unit_of_work() as work:
        if not work.deployments.unwant(reach, reference.name, owner=reference.owner):
            raise not_found(f"deployment {reference}")
        row = work.deployments.find(reach, reference.name, owner=reference.owner)
        if row is not None:
            work.answers.forget(row.owner_id, row.name)
        return shown(work, row) if row is not None else None


def _version(work: UnitOfWork, user: Principal, reference: Reference) -> ModelVersionRow:
    version = work.models.find(user.reach("models.read"), reference) if reference.source == "registry" else None
    if version is None:
        raise _refused(f"you have no model {reference} in the registry.", "`eigenwerk models` lists them.")
    return version


def _model(parts: Parts, user: Principal, reference: Reference) -> _Model:
    """Raises InvalidInput for what can't be served, and for an adapter whose base is gone."""
    with parts.database.unit_of_work() as work:
        version = _version(work, user, reference)
        manifest = Manifest.model_validate(version.manifest)
        check_task(manifest, reference)
        exactly = Reference(owner=version.model.owner.name, name=version.model.name, version=version.version)
        base = freeze_base(work, user, "model", reference, manifest.base) if manifest.base is not None else None
        return _Model(exactly, manifest, frozen_version(work, version), base)


def _refused(message: str, remedy: str) -> InvalidInput:
    return InvalidInput([Problem(field="model", message=message, remedy=remedy)])
