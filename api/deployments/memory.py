"""How much memory a deployment takes: weights, keys and values for the context that is declared, and what is beside."""

from __future__ import annotations

from dataclasses import dataclass

from api.deployments.schemas import DeploymentRequest
from api.parts import Parts
from api.references.hub import resolve
from api.references.model_files import known_gguf, known_shape, small_files
from jobspecs.engines import WeightsFormat, format_of
from jobspecs.frozen import FrozenHubModel, FrozenRegistryModel
from jobspecs.manifest import Manifest
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import parse_reference
from scheduling.estimates.engine_memory import (
    ServedModel,
    ServingMemory,
    engine_memory,
    least_bytes,
    why_not_declared,
)
from scheduling.estimates.estimating import TYPICAL_WEIGHTS_BYTES
from scheduling.estimates.serving import depends_on_shape
from storage.frozen_versions import weights_bytes

_GIB = 1024**3


@dataclass(frozen=True)
class Reckoned:
    """Of each replica by parts, None where nobody has reckoned it; and main memory of all of them."""

    each: ServingMemory | None
    memory_bytes: int


def reckon(
    parts: Parts,
    manifest: Manifest,
    frozen: FrozenRegistryModel,
    base: FrozenRegistryModel | FrozenHubModel | None,
    request: DeploymentRequest,
    engine: str,
    *,
    adapters_bytes: int = 0,
) -> Reckoned:
    """`adapters_bytes`: memory of adapters that each replica serves beside the model.

    Waits for the object store and the hub: not for use inside a transaction.

    Raises InvalidInput for a context that model or engine can't have, and for less memory than answers anybody.
    """
    given = int(request.memory_gib * _GIB) if request.memory_gib is not None else None
    if given is not None and isinstance(base, FrozenHubModel):
        # The base may lie on the inference host already, and no hub be there to ask how large it is.
        return Reckoned(None, given)
    model = _known(parts, manifest, frozen, base)
    if problem := why_not_declared(engine, model, request.context_tokens, request.sequences):
        raise InvalidInput([problem])
    each = engine_memory(
        engine,
        model,
        on_gpu=request.gpus > 0,
        context_tokens=request.context_tokens,
        sequences=request.sequences,
    ).beside(adapters_bytes)
    if given is None:
        return Reckoned(each, request.replicas * each.memory_bytes)
    declared = request.context_tokens is not None or request.sequences is not None
    least = each.memory_bytes if declared else least_bytes(engine, each)
    if given // request.replicas < least:
        raise _refused(
            "memory_gib",
            f"each of {request.replicas} replicas would have {given / request.replicas / _GIB:.2f} GiB, and this model "
            f"needs {least / _GIB:.2f} GiB at the least: {each.main}.",
            "Give it more, or leave memory_gib out.",
        )
    return Reckoned(each.within(given // request.replicas), given)


def _known(
    parts: Parts,
    manifest: Manifest,
    frozen: FrozenRegistryModel,
    base: FrozenRegistryModel | FrozenHubModel | None,
) -> ServedModel:
    objects, shape, gguf = parts.objects.within(parts.settings.check_seconds_max), None, None
    if depends_on_shape(manifest):
        shape = known_shape(parts, small_files(parts, objects, base or frozen))
    elif format_of(manifest) is WeightsFormat.gguf:
        gguf = known_gguf(parts, objects, frozen)
    return ServedModel(manifest, _base_bytes(parts, manifest, base), shape, gguf)


def _base_bytes(parts: Parts, manifest: Manifest, base: FrozenRegistryModel | FrozenHubModel | None) -> int:
    """Weights of the model that an adapter changes; 0 for any other model."""
    if manifest.base is None or base is None:
        return 0
    if isinstance(base, FrozenRegistryModel):
        return weights_bytes(base)
    found = resolve(parts.hub, parts.settings, parse_reference(manifest.base.reference))
    return found.weights_bytes or TYPICAL_WEIGHTS_BYTES


def _refused(field: str, message: str, remedy: str) -> InvalidInput:
    return InvalidInput([Problem(field=field, message=message, remedy=remedy)])
