"""Deleting versions of models. Their numbers are never given again."""

from __future__ import annotations

from api.authentication import Principal
from api.errors import not_found
from api.parts import Parts
from api.references.uses import Deleted, check_unused
from api.registry.service import find
from jobspecs.references import Reference


def delete(parts: Parts, user: Principal, owner: str, name: str, version: int | None) -> Deleted:
    """Deletes one version, or all of them with the model's aliases. Raises ApiError 404; 409 while one is in use."""
    with parts.database.unit_of_work() as work:
        newest = find(work, user, Reference(owner=owner, name=name))
        every = work.models.list_versions(newest.model.owner_id, name)
        rows = [row for row in every if version in (None, row.version)]
        if not rows:
            raise not_found(f"model {owner}/{name}@{version}")
        check_unused(f"The model {owner}/{name}", work.removal.uses_of_models(rows))
        work.removal.delete_models(rows)
        return Deleted(deleted=[f"{owner}/{name}@{row.version}" for row in rows], bytes=sum(row.bytes for row in rows))
