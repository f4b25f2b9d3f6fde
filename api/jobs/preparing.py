"""What is found out about a spec before its job is queued: what its references mean, whether it fits, its size."""

from __future__ import annotations

from collections.abc import Collection

from api.jobs.inspecting import Asking, Inspected, inspect
from api.parts import Parts
from api.references.freezing import Frozen, freeze
from api.references.hub import GgufChoice, HubModel, resolve
from api.references.model_files import own_hub_token
from jobspecs.dialect import Dialect
from jobspecs.estimate import Estimate
from jobspecs.frozen import FrozenRegistryModel
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import parse_reference
from jobspecs.registry import JobSpec
from jobspecs.rights import Principal
from scheduling.admission import why_no_host_fits
from scheduling.decisions import Host, Resources
from scheduling.estimates.estimating import admission_bytes
from storage.database import UnitOfWork

GIB = 1024**3


def check_room(work: UnitOfWork, memory_bytes: int, gpus: int) -> None:
    """Raises InvalidInput when no host of the platform is large enough: such a job would wait for ever."""
    hosts = [Host(host.name, Resources(host.slots, host.memory_bytes, host.gpus)) for host in work.hosts.known()]
    if problem := why_no_host_fits(Resources(1, memory_bytes, gpus), hosts):
        raise InvalidInput([problem])


def hub_models_of(parts: Parts, user: Principal, spec: JobSpec) -> dict[str, HubModel]:
    """Role -> what the hub says of it to the user; asked before the transaction begins."""
    references = {role: parse_reference(text) for role, text in spec.model_references().items()}
    of_hub = {role: reference for role, reference in references.items() if reference.source == "hub"}
    token = own_hub_token(parts, user.user_id) if of_hub else None
    return {
        role: resolve(parts.hub, parts.settings, reference, GgufChoice.of(spec), token)
        for role, reference in of_hub.items()
    }


def frozen_inputs(parts: Parts, user: Principal, spec: JobSpec, left_open: Collection[str] = ()) -> Frozen:
    """Raises InvalidInput when a reference means nothing; those `left_open` are not looked at."""
    hub_models = hub_models_of(parts, user, spec)
    with parts.database.unit_of_work() as work:
        return freeze(work, user, spec, hub_models, left_open)


def refuse_by_profile(spec: JobSpec, frozen: Frozen) -> None:
    """Raises InvalidInput when the data set's profile tells already that the spec can't work."""
    if problems := problems_by_profile(spec, frozen):
        raise InvalidInput(problems)


def problems_by_profile(spec: JobSpec, frozen: Frozen) -> tuple[Problem, ...]:
    if frozen.profile is None:
        return ()
    read_as = frozen.profile.dialect or Dialect()
    return tuple(map(read_as.located, spec.problems_with(frozen.profile)))


def inspected(parts: Parts, asking: Asking, spec: JobSpec, frozen: Frozen) -> Inspected:
    """No transaction is open while data set and models are looked at."""
    model = frozen.inputs.model
    digest = model.digest if isinstance(model, FrozenRegistryModel) else None
    with parts.database.unit_of_work() as work:
        speeds = work.queue.speeds(spec.kind, digest, gpus=spec.resources.gpus)
        others = [] if speeds else work.queue.speeds(spec.kind, None, gpus=spec.resources.gpus)
    return inspect(parts, asking, spec, frozen, (speeds, others))


def memory_bytes_of(spec: JobSpec, made: Estimate) -> int:
    return int(spec.resources.memory_gib * GIB) if spec.resources.memory_gib != "auto" else admission_bytes(made)
