"""Looks for deployments in the database."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from fastapi.concurrency import run_in_threadpool

from api.inference.splitting import is_changing
from api.parts import Parts
from jobspecs.rights import Principal
from storage.tables import DeploymentRow, ModelVersionRow

#: Of int4, which a version's number is.
VERSION_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def find_row(parts: Parts, user: Principal, name: str) -> tuple[DeploymentRow, ModelVersionRow | None] | None:
    """The user's wanted deployment `name` or `owner/name`; others' don't exist for the user.

    Or the one that serves an adapter of that name, and the adapter.
    """
    found = look(parts, user, name)
    return (found.shares[0], found.adapter) if found.shares else None


@dataclass(frozen=True)
class Found:
    """The wanted shares of a deployment, none without the first, and of its candidate."""

    shares: Sequence[DeploymentRow] = ()
    candidate: Sequence[DeploymentRow] = ()
    #: Of the hosts that answer for them.
    certificates: Mapping[str, str] = field(default_factory=dict)
    #: Set when it was not the deployment that was named, but this adapter, which it serves.
    adapter: ModelVersionRow | None = None

    @property
    def answers(self) -> bool:
        return any(row.answers for row in (*self.shares, *self.candidate))

    @property
    def settled(self) -> bool:
        """Whether it answers and nothing is about to answer otherwise."""
        return self.answers and not any(is_changing(row) for row in (*self.shares, *self.candidate))


async def look_recently(parts: Parts, user: Principal, name: str, version: str) -> Found:
    """As `look`, or as it was a moment ago; not while it starts or changes, which may be over at any moment."""
    looking = partial(run_in_threadpool, look, parts, user, name, version)
    return await parts.recent.find((user.reach("deployments.ask"), name, version), looking, lambda found: found.settled)


def look(parts: Parts, user: Principal, name: str, version: str = "") -> Found:
    """The deployment of that name; else the one that serves an adapter of that name, and version."""
    owner, _, own_name = name.rpartition("/")
    # PostgreSQL takes no NUL character; a path can spell it.
    if "\0" in name:
        return Found()
    with parts.database.reading() as work:
        reach, adapter = user.reach("deployments.ask"), None
        shares, candidate = work.candidates.find_with(reach, own_name, owner=owner or None)
        if not shares and (not version or VERSION_NUMBER.fullmatch(version)):
            shares, adapter = work.served_adapters.find(
                reach, own_name, owner=owner or None, version=int(version) if version else None
            )
        rows = [*shares, *candidate]
        hosts = {row.endpoint_host for row in rows if row.endpoint and row.endpoint.startswith("https:")}
        certificates = work.hosts.certificates([host for host in hosts if host]) if hosts else {}
    return Found(shares, candidate, certificates, adapter) if shares and shares[0].share == 0 else Found()
