"""Deleting versions of models. Their numbers are never given again."""

from __future__ import annotations

from api.errors import not_found
from api.parts import Parts
from api.references.uses import Deleted, check_unused, lost
from api.registry.service import find_model_to_change
from jobspecs.references import Reference
from jobspecs.rights import Principal


def delete(parts: Parts, user: Principal, owner: str, name: str, version: int | None, *, dry_run: bool) -> Deleted:
    """Deletes one version, or all of them with the model's aliases. Raises ApiError 404; 409 while one is in use.

    With `dry_run` nothing is deleted, and the answer is the same.
    """
    reference = Reference(owner=owner, name=name, version=version)
    with parts.database.unit_of_work() as work:
        every = work.models.list_versions(user.reach("models.delete"), Reference(owner=owner, name=name))
        rows = [row for row in every if version in (None, row.version)]
        if not rows:
            # What there is none of is a 404, and what the user may only read a 403.
            find_model_to_change(work, user, reference)
            raise not_found(f"model {reference}")
        check_unused(f"The model {reference}", work.removal.uses_of_models(rows))
        retries = work.removal.retries_lost(rows)
        freed = work.removal.bytes_freed(rows)
        if not dry_run:
            work.removal.delete_models(rows)
        deleted = [f"{owner}/{name}@{row.version}" for row in rows]
        return Deleted(deleted=deleted, bytes=freed, retries_lost=lost(retries))
