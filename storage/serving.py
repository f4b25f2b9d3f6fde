"""Writes down what is wanted of a deployment, by the rules that hold for everybody: requests and pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

from jobspecs.engines import WeightsFormat, format_of, task_of
from jobspecs.hosts import Machine, smallest_gpu_bytes
from jobspecs.manifest import Manifest
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import Reference
from jobspecs.rights import Reach
from jobspecs.tasks import SERVED_TASKS
from scheduling.engine_choice import Choice, Served, choose_engine
from scheduling.estimates.engine_memory import ServingMemory
from scheduling.serving_admission import Needs, why_it_cannot_stay, why_no_host_serves
from storage.database import UnitOfWork
from storage.repositories.serving.candidates import candidate_name
from storage.tables import DeploymentRow, HostRow, ModelVersionRow


@dataclass(frozen=True)
class Wish:
    """What shall serve a model. `memory_bytes` and `gpus` are of all replicas."""

    engine: str | None
    replicas: int
    hosts: int
    gpus: int
    memory_bytes: int
    #: Seconds without a request after which it sleeps; None: it never does.
    idle_after_s: int | None = None
    #: Of each replica, where it was reckoned by parts.
    memory: ServingMemory | None = None
    #: Tokens of one answer with its prompt, and answers at once; None: as the engine likes.
    context_tokens: int | None = None
    sequences: int | None = None
    #: Versions that are served beside the model, over its weights.
    adapter_ids: frozenset[UUID] = frozenset()


@dataclass(frozen=True)
class _Share:
    """What one host serves of a deployment."""

    replicas: int
    needs: Needs


def check_task(manifest: Manifest, reference: Reference) -> None:
    """Raises InvalidInput for a model that nothing can serve."""
    if task_of(manifest) not in SERVED_TASKS:
        what = f"serves {manifest.task}" if manifest.task else "is a bare model without a head for a task"
        problem = Problem(
            field="model",
            message=f"{reference} {what}; what can be served is {', '.join(SERVED_TASKS)}.",
            remedy="Train a model for one of these from it first: eigenwerk submit spec.yaml",
        )
        raise InvalidInput([problem])


def why_not_beside(name: str, adapter: Manifest | None, base: Manifest | None) -> Problem | None:
    """Why an adapter can't be served beside a model. `base`: None where it is not made yet."""
    alone = f"Deploy it by its own name: eigenwerk deploy {name}"
    if adapter is None:
        return Problem(message=f"you have no model {name} in the registry.", remedy="`eigenwerk models` lists them.")
    if adapter.base is None:
        return Problem(message=f"{name} is a model of its own, and no adapter.", remedy=alone)
    if base is not None and base.base is not None:
        return Problem(
            message="the model that is deployed is an adapter itself, which is merged into its base.",
            remedy="Deploy the base, and name both as its adapters.",
        )
    if base is not None and adapter.base.digest != base.digest:
        return Problem(
            message=f"{name} is an adapter of {adapter.base.reference}, which is another model than the one deployed.",
            remedy=f"{alone}, or with its own base.",
        )
    if format_of(adapter) is not WeightsFormat.safetensors:
        return Problem(message=f"{name} is no LoRA adapter in peft's format.", remedy="Convert it to safetensors.")
    return None


def serve(
    work: UnitOfWork, reach: Reach, maker: UUID, reference: Reference, version: ModelVersionRow, wish: Wish
) -> Sequence[DeploymentRow]:
    """Creates or changes the deployment `reference`, within the caller's transaction; all its shares.

    Asking for what is wanted already changes nothing, unless it had failed. Raises InvalidInput for what no host could
    serve, and for what the host that serves it now has no room for.
    """
    manifest, shares = Manifest.model_validate(version.manifest), _shares(wish)
    hosts = work.hosts.known()
    choice = choose(manifest, wish, shares[0].replicas, [frozenset(host.engines) for host in hosts])
    if problem := why_no_host_serves(shares[0].needs, [_has(host) for host in hosts], str(wish.memory or "")):
        raise InvalidInput([problem])
    present = work.deployments.find_shares(reach, reference.name, owner=reference.owner)
    # First the hosts, then the deployment, as its workers do: the other way round both would wait for ever.
    for host_name in sorted({row.host for row in present if row.host is not None}):
        work.hosts.lock(host_name)
    for number, share in enumerate(shares):
        row = work.deployments.find(reach, reference.name, owner=reference.owner, share=number, lock=True)
        before = Needs(row.memory_bytes, row.gpus, row.gpu_bytes) if row is not None else Needs(0)
        declared = (wish.context_tokens, wish.sequences)
        same = row is not None and declared == (row.context_tokens, row.sequences)
        if row is not None and same and _is_wanted_already(row, version, choice, share, wish.adapter_ids):
            work.sleep.wake(row.owner_id, row.name)
            work.sleep.set_patience(row.owner_id, row.name, wish.idle_after_s)
            continue
        row = work.deployments.want(
            maker,
            reference.name,
            share=number,
            model_version_id=version.id,
            engine=choice.engine.name,
            engine_reason=choice.reason,
            task=task_of(manifest),
            replicas=share.replicas,
            memory_bytes=share.needs.memory_bytes,
            gpus=share.needs.gpus,
            idle_after_s=wish.idle_after_s,
            gpu_bytes=share.needs.gpu_bytes or 0,
            memory=asdict(wish.memory) if wish.memory else None,
            context_tokens=wish.context_tokens,
            sequences=wish.sequences,
            adapter_ids=wish.adapter_ids,
        )
        if not share.needs.fit(before):
            _make_room(work, row, share.needs, {host.name: _has(host).gpu_bytes for host in hosts})
    work.deployments.unwant(reach, reference.name, owner=reference.owner, shares_from=len(shares))
    # What is deployed for all requests leaves none for another version.
    work.deployments.unwant(reach, candidate_name(reference.name), owner=reference.owner)
    return work.deployments.find_shares(reach, reference.name, owner=reference.owner)


def _shares(wish: Wish) -> list[_Share]:
    """What each host serves; the first ones have one replica more where they don't divide."""
    counts = _divided(wish.replicas, wish.hosts)
    gpus = _divided(wish.gpus, wish.hosts)
    gpu_bytes = wish.memory.gpu_bytes if wish.memory is not None and wish.gpus else 0
    return [
        _Share(count, Needs(wish.memory_bytes * count // wish.replicas, gpus[number], gpu_bytes))
        for number, count in enumerate(counts)
    ]


def _divided(number: int, parts: int) -> list[int]:
    return [number // parts + (part < number % parts) for part in range(parts)]


def _has(host: HostRow) -> Needs:
    gpus = Machine.model_validate(host.machine).gpus if host.machine else []
    return Needs(host.memory_bytes, host.gpus, smallest_gpu_bytes(gpus))


def choose(manifest: Manifest, wish: Wish, replicas: int, hosts: Sequence[frozenset[str]]) -> Choice:
    served = Served(
        format_of(manifest),
        task_of(manifest) or "",
        is_adapter=manifest.base is not None,
        gpus=wish.gpus,
        replicas=replicas,
        beside=len(wish.adapter_ids),
    )
    choice = choose_engine(served, hosts, wish.engine)
    if isinstance(choice, Problem):
        raise InvalidInput([choice])
    return choice


def _make_room(work: UnitOfWork, row: DeploymentRow, needs: Needs, gpu_bytes: Mapping[str, int | None]) -> None:
    """Sees whether what is wanted more of still fits the host that has claimed the deployment.

    Where it doesn't, one that answers stays as it is, and InvalidInput says why: nobody's requests end because somebody
    asked for more memory. One that does not answer loses nothing, and goes to whatever host has room.
    """
    if row.host is None:
        return
    work.hosts.lock(row.host)
    room = work.hosts.room(row.host, beside=row.id)
    free = Needs(room.memory_bytes, room.gpus, gpu_bytes.get(row.host)) if room is not None else None
    problem = why_it_cannot_stay(needs, row.host, free) if free is not None else None
    if problem is not None and row.endpoint is not None:
        raise InvalidInput([problem])
    if problem is not None:
        work.deployments.place_anew(row)


def _is_wanted_already(
    row: DeploymentRow, version: ModelVersionRow, choice: Choice, share: _Share, adapter_ids: frozenset[UUID]
) -> bool:
    same = (row.model_version_id, row.engine, row.replicas, row.memory_bytes, row.gpus) == (
        version.id,
        choice.engine.name,
        share.replicas,
        share.needs.memory_bytes,
        share.needs.gpus,
    )
    same = same and {adapter.id for adapter in row.adapters} == adapter_ids
    return same and row.wanted and row.state != "failed"
