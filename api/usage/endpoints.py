"""/v1/usage."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel

from api.authentication import TheUser, guarded_router, requires
from api.parts import ThePlatform
from jobspecs.rights import NotAllowed, Reach

router = guarded_router("usage")


class StoredKind(BaseModel):
    """One kind of what an owner has: datasets, models, checkpoints, imports that nobody has completed yet, or uploads
    of clients of the hub that are no version yet.
    """

    owner: str
    kind: str
    items: int
    bytes: int


class StorageUsage(BaseModel):
    """Bytes in the object store by owner and kind."""

    object: Literal["usage.storage"] = "usage.storage"
    data: list[StoredKind]
    bytes_total: int
    #: Of the whole platform, in nobody's figures: bytes that nothing names any more and that go within the hour. Only
    #: with `all`.
    unreferenced_bytes: int | None = None


@router.get("/v1/usage/storage")
@requires("usage.read")
def storage_usage(
    platform: ThePlatform,
    user: TheUser,
    everybody: Annotated[bool, Query(alias="all", description="everybody's, for an administrator")] = False,
) -> StorageUsage:
    """What you have stored, in bytes; with `all`, what everybody has."""
    reach = user.reach("usage.read")
    if everybody and not reach.everybody:
        raise NotAllowed("Everybody's usage is shown to administrators. Leave `all` out to see yours.")
    with platform.database.unit_of_work() as work:
        found = work.stored.by_owner(reach if everybody else Reach.of(reach.home))
        unreferenced = work.garbage.bytes_waiting() + work.blobs.bytes_waiting() if everybody else None
    data = [StoredKind(owner=item.owner, kind=item.kind, items=item.items, bytes=item.bytes) for item in found]
    total = sum(item.bytes for item in data)
    return StorageUsage(data=data, bytes_total=total, unreferenced_bytes=unreferenced)
