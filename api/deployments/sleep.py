"""Deployments that are put to sleep or woken by hand."""

from __future__ import annotations

from api.deployments.schemas import Deployment
from api.deployments.traffic import shown
from api.errors import ApiError, not_found
from api.parts import Parts
from jobspecs.references import Reference
from jobspecs.rights import Principal


def sleep(parts: Parts, user: Principal, reference: Reference) -> Deployment:
    """Puts it to sleep until somebody asks it or wakes it; one that sleeps sleeps on.

    Raises ApiError: 404 without it, 409 where somebody else runs its engine.
    """
    return _changed(parts, user, reference, asleep=True)


def wake(parts: Parts, user: Principal, reference: Reference) -> Deployment:
    """Wakes it; one that does not sleep stays as it is. Raises ApiError as `sleep` does."""
    return _changed(parts, user, reference, asleep=False)


def _changed(parts: Parts, user: Principal, reference: Reference, *, asleep: bool) -> Deployment:
    with parts.database.unit_of_work() as work:
        row = work.deployments.find(user.reach("deployments.write"), reference.name, owner=reference.owner)
        if row is None or not row.wanted:
            raise not_found(f"deployment {reference}")
        if row.external is not None:
            raise ApiError(409, f"Somebody else runs the engine of {reference}: it is theirs to stop and start.")
        (work.sleep.put_to_sleep if asleep else work.sleep.wake)(row.owner_id, row.name)
        return shown(work, row)
