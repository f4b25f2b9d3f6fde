"""Deleting versions of data sets. Their numbers are never given again."""

from __future__ import annotations

from api.datasets.service import find_to_change
from api.errors import not_found
from api.parts import Parts
from api.references.uses import Deleted, check_unused, lost
from jobspecs.references import Reference
from jobspecs.rights import Principal


def delete(parts: Parts, user: Principal, reference: Reference, *, dry_run: bool) -> Deleted:
    """Deletes one version, or all of them. Raises ApiError 404; 409 while a job that has not ended reads one.

    With `dry_run` nothing is deleted, and the answer is the same.
    """
    with parts.database.unit_of_work() as work:
        every = work.datasets.list_versions(user.reach("datasets.delete"), reference)
        rows = [row for row in every if reference.version in (None, row.version)]
        if not rows:
            # What there is none of is a 404, and what the user may only read a 403.
            find_to_change(work, user, reference)
            raise not_found(f"data set {reference}")
        check_unused(f"The data set {reference}", work.removal.uses_of_datasets(rows))
        retries = work.removal.retries_lost(rows)
        if not dry_run:
            work.removal.delete_datasets(rows)
        owner = rows[0].dataset.owner.name
        deleted = [f"{owner}/{reference.name}@{row.version}" for row in rows]
        return Deleted(deleted=deleted, bytes=sum(row.bytes for row in rows), retries_lost=lost(retries))
