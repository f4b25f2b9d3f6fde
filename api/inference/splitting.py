"""Which version answers: the deployment's, or its candidate, which takes a share of the requests."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from jobspecs.engines import EMBEDDED, ENGINE_KINDS
from storage.tables import DeploymentRow


@dataclass(frozen=True)
class Chosen:
    """Rows that answer, and those that do where they are gone."""

    rows: Sequence[DeploymentRow]
    fallback: Sequence[DeploymentRow] = ()


def choose(shares: Sequence[DeploymentRow], candidate: Sequence[DeploymentRow], session: str | None) -> Chosen:
    """By chance for each request; with a `session` always the same as long as the share is, and for more when it grows.

    A candidate that is not ready gets nothing.
    """
    answering = [row for row in shares if row.answers]
    ready = [row for row in candidate if row.traffic_percent and is_ready(row)]
    if not ready:
        return Chosen(answering)
    if not answering or _point(ready[0], session) < (ready[0].traffic_percent or 0):
        return Chosen(ready, _alike(ready, answering))
    return Chosen(answering, _alike(answering, ready))


def of_version(
    shares: Sequence[DeploymentRow], candidate: Sequence[DeploymentRow], version: int
) -> Sequence[DeploymentRow]:
    """Rows that shall serve the version; none where it is another one's."""
    for rows in (shares, candidate):
        if rows and rows[0].model_version is not None and rows[0].model_version.version == version:
            return rows
    return ()


def is_ready(row: DeploymentRow) -> bool:
    """Whether what answers is the wanted version."""
    return row.state == "ready" and row.answers


def is_changing(row: DeploymentRow) -> bool:
    """Whether what answers is about to be something else: perhaps with other adapters."""
    return row.answers and row.state in ("pending", "starting")


def has_adapter(row: DeploymentRow, adapter: str) -> bool:
    """Whether its engines have told of the adapter `owner/name@version`: TGI would answer as the base for another.

    While its engine is changed the former one may still answer, which knows models by names.
    """
    called, adapters = ENGINE_KINDS.get(row.engine, EMBEDDED).known(row.endpoint_model)
    return adapter in adapters and (row.engine != EMBEDDED.name or called is None)


def _alike(rows: Sequence[DeploymentRow], others: Sequence[DeploymentRow]) -> Sequence[DeploymentRow]:
    """Those of the others that take the request as it was written for these."""
    takes = {(row.engine, _called(row)) for row in rows}
    return [row for row in others if takes == {(row.engine, _called(row))}]


def _called(row: DeploymentRow) -> str | None:
    """The embedded engine itself refuses adapters that it has not."""
    return EMBEDDED.known(row.endpoint_model)[0] if row.engine == EMBEDDED.name else row.endpoint_model


def _point(row: DeploymentRow, session: str | None) -> float:
    """From 0 to 100."""
    if session is None:
        return random.uniform(0, 100)
    digest = hashlib.sha256(f"{row.owner_id}/{row.name}/{row.served}/{session}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 * 100
