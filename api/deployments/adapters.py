"""Adapters that a deployment serves beside its model, over the weights that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from jobspecs.manifest import Manifest
from jobspecs.problems import InvalidInput
from jobspecs.references import parse_reference
from jobspecs.rights import Principal
from scheduling.estimates.serving import adapter_bytes
from storage.database import UnitOfWork
from storage.serving import why_not_beside


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
        if (why := why_not_beside(name, adapter, base)) is not None:
            problems.append(why.model_copy(update={"field": f"adapters[{place}]"}))
        elif version is not None and adapter is not None:
            found[version.id] = adapter_bytes(adapter.bytes_total)
    if problems:
        raise InvalidInput(problems)
    return found
