"""Candidates: versions that take a share of a deployment's requests before they take all of them, or none.

A candidate is a deployment of its own, claimed and served as any other, under a name that nobody can give: `NAME@next`.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session, lazyload

from jobspecs.rights import Reach
from storage.repositories.owners import named, within
from storage.tables import DeploymentRow

_SUFFIX = "@next"


def candidate_name(name: str) -> str:
    return f"{name}{_SUFFIX}"


def names_of_both(name: str) -> tuple[str, str]:
    """Of a deployment and its candidate, either of which may be given."""
    own = name.removesuffix(_SUFFIX)
    return own, candidate_name(own)


class CandidateRepository:
    """Rows of the deployments table that are candidates."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find_with(
        self, reach: Reach, name: str, *, owner: str | None = None
    ) -> tuple[Sequence[DeploymentRow], Sequence[DeploymentRow]]:
        """The wanted shares of the deployment `owner/name`, and those of its candidate."""
        names = name, candidate_name(name)
        which = named(reach, DeploymentRow.owner_id, owner), DeploymentRow.name.in_(names), DeploymentRow.wanted
        # Each request asks: what only few need is not read.
        query = select(DeploymentRow).where(*which).options(lazyload(DeploymentRow.adapters))
        rows = self._session.scalars(query.order_by(DeploymentRow.share)).all()
        return [row for row in rows if row.name == name], [row for row in rows if row.name != name]

    def of(self, row: DeploymentRow) -> Sequence[DeploymentRow]:
        """The wanted shares of the deployment's candidate; none where it has none."""
        return self.find_with(Reach.of(row.owner_id), row.name)[1]

    def set_traffic(self, owner_id: UUID, name: str, percent: int) -> None:
        """Of 100 requests to the deployment `name` so many go to its candidate from now on."""
        which = within(Reach.of(owner_id), DeploymentRow.owner_id), DeploymentRow.name == candidate_name(name)
        self._session.execute(update(DeploymentRow).where(*which).values(traffic_percent=percent))

    def promote(self, owner_id: UUID, name: str) -> None:
        """The candidate is the deployment from now on; what was it until now ends.

        The caller has locked the rows. Both are served all the while: nothing is started anew.
        """
        mine = within(Reach.of(owner_id), DeploymentRow.owner_id)
        for row in self._session.scalars(select(DeploymentRow).where(mine, DeploymentRow.name == name)):
            # Until its engines have ended: nobody can ask it by this name.
            row.name, row.traffic_percent = f"{name}@{row.id}", 0
            if row.wanted:
                row.wanted, row.generation = False, row.generation + 1
            if row.host is None:
                self._session.delete(row)
        self._session.flush()
        candidate = update(DeploymentRow).where(mine, DeploymentRow.name == candidate_name(name), DeploymentRow.wanted)
        self._session.execute(candidate.values(name=name, traffic_percent=None))
        self._session.expire_all()
