"""Takes in a file that was received whole: reads every row, then stores it as a data set's next version."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from uuid import UUID

from fastapi import Request

from api.datasets import service
from api.datasets.schemas import DatasetVersionDetail
from api.foreign_files import is_large, table_limits, table_remedy, transferring
from api.parts import Parts
from api.streaming import Received
from jobspecs.provenance import UNKNOWN, Provenance
from jobspecs.purposes import Purpose
from jobspecs.rights import Principal
from storage.tabular import TableFormat


@dataclass(frozen=True)
class Pushed:
    """A file, and what it shall become: a version of `owner_id`'s data set `name`."""

    owner_id: UUID
    name: str
    file_name: str
    table: TableFormat
    received: Received
    provenance: Provenance = UNKNOWN
    purpose: Purpose = "fine-tune"


async def taken(parts: Parts, request: Request, user: Principal, pushed: Pushed) -> tuple[DatasetVersionDetail, bool]:
    """The version; and False where it was there already. Raises what `Readings.read` and `service.push` raise."""
    file_name, table, received = pushed.file_name, pushed.table, pushed.received
    limits = table_limits(received.bytes, table, parts.settings)
    profile = await parts.readings.read(
        request,
        user.user_id,
        file_name,
        table_remedy(table),
        partial(service.profiled, parts, file_name, table, received),
        large=is_large(limits),
        limits=limits,
    )
    async with transferring(request, parts.stopping) as should_stop:
        store = partial(service.push, parts, pushed.owner_id, pushed.name, file_name, table, received, profile)
        return await parts.transfers.run(partial(store, pushed.provenance, should_stop, purpose=pushed.purpose))
