"""Adapters that a deployment serves beside its model, over the weights that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from jobspecs.engines import WeightsFormat, format_of
from jobspecs.manifest import Manifest
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import parse_reference
from jobspecs.rights import Principal
from scheduling.estimates.serving import adapter_bytes
from storage.database import UnitOfWork


def check_adapters(work: UnitOfWork, user: Principal, base: Manifest, wanted: Sequence[str]) -> dict[UUID, int]:
    """Versions of the registry, and the main memory that each needs in a process that serves the `base`, in bytes.

    Raises InvalidInput naming each that is not there, or whose lineage does not name this base.
    """
    found: dict[UUID, int] = {}
    problems = []
    for place, name in enumerate(wanted):
        reference = parse_reference(name)
        known = reference.source == "registry"
        version = work.models.find(user.reach("models.read"), reference) if known else None
        adapter = Manifest.model_validate(version.manifest) if version is not None else None
        if (why := _why_not(name, adapter, base)) is not None:
            problems.append(why.model_copy(update={"field": f"adapters[{place}]"}))
        elif version is not None and adapter is not None:
            found[version.id] = adapter_bytes(adapter.bytes_total)
    if problems:
        raise InvalidInput(problems)
    return found


def _why_not(name: str, adapter: Manifest | None, base: Manifest) -> Problem | None:
    alone = f"Deploy it by its own name: eigenwerk deploy {name}"
    if adapter is None:
        return Problem(message=f"you have no model {name} in the registry.", remedy="`eigenwerk models` lists them.")
    if adapter.base is None:
        return Problem(message=f"{name} is a model of its own, and no adapter.", remedy=alone)
    if base.base is not None:
        return Problem(
            message="the model that is deployed is an adapter itself, which is merged into its base.",
            remedy="Deploy the base, and name both as its adapters.",
        )
    if adapter.base.digest != base.digest:
        return Problem(
            message=f"{name} is an adapter of {adapter.base.reference}, which is another model than the one deployed.",
            remedy=f"{alone}, or with its own base.",
        )
    if format_of(adapter) is not WeightsFormat.safetensors:
        return Problem(message=f"{name} is no LoRA adapter in peft's format.", remedy="Convert it to safetensors.")
    return None
