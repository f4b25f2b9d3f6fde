"""How deployments answer: requests, errors and times, by version."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.rights import Reach
from storage.repositories.owners import same_owner, within
from storage.tables import AnswerCountRow, DeploymentRow, OwnerRow

#: Upper bounds of the buckets in seconds: quantiles between them are known to a third.
ANSWER_BUCKETS_S = (
    *(0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, float("inf")),
)


@dataclass(frozen=True, slots=True)
class Answered:
    """Which version of which deployment has answered."""

    owner_id: UUID
    deployment: str
    model: str


@dataclass(frozen=True, slots=True, order=True)
class AnswerKey:
    """What is counted together."""

    owner_id: UUID
    deployment: str
    model: str
    failed: bool
    seconds_max: float

    @classmethod
    def of(cls, answered: Answered, duration_s: float, *, failed: bool) -> AnswerKey:
        bound_s = ANSWER_BUCKETS_S[bisect_left(ANSWER_BUCKETS_S, duration_s)]
        return cls(answered.owner_id, answered.deployment, answered.model, failed, bound_s)


@dataclass(frozen=True, slots=True)
class AnswerTotal:
    """So many requests, which took so long together."""

    count: int = 0
    seconds: float = 0.0

    def __add__(self, other: AnswerTotal) -> AnswerTotal:
        return AnswerTotal(self.count + other.count, self.seconds + other.seconds)


class AnswerRepository:
    """The answer_counts table."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, totals: Mapping[AnswerKey, AnswerTotal]) -> None:
        """Adds to what was counted. Users that are gone by now are passed over."""
        owners = set(
            self._session.scalars(select(OwnerRow.id).where(OwnerRow.id.in_({key.owner_id for key in totals})))
        )
        # In one order: two that add at once must not wait for each other.
        for key in sorted(key for key in totals if owners.issuperset({key.owner_id})):
            total = totals[key]
            values = {"count": total.count, "seconds": total.seconds}
            names = {name: getattr(key, name) for name in AnswerKey.__slots__}
            statement = insert(AnswerCountRow).values(**names, **values)
            raised = {
                "count": AnswerCountRow.count + statement.excluded.count,
                "seconds": AnswerCountRow.seconds + statement.excluded.seconds,
            }
            self._session.execute(statement.on_conflict_do_update(index_elements=list(names), set_=raised))

    def of(self, owner_id: UUID, deployment: str) -> Sequence[AnswerCountRow]:
        """All of one deployment."""
        mine = within(Reach.of(owner_id), AnswerCountRow.owner_id), AnswerCountRow.deployment == deployment
        return self._session.scalars(select(AnswerCountRow).where(*mine)).all()

    def of_all(self) -> Sequence[tuple[str, AnswerCountRow]]:
        """Those of all deployments that are wanted, with their owners' names."""
        wanted = select(DeploymentRow.id).where(
            same_owner(DeploymentRow.owner_id, AnswerCountRow.owner_id),
            DeploymentRow.name == AnswerCountRow.deployment,
            DeploymentRow.wanted,
        )
        query = select(OwnerRow.name, AnswerCountRow).join(OwnerRow, same_owner(OwnerRow.id, AnswerCountRow.owner_id))
        return [(name, row) for name, row in self._session.execute(query.where(wanted.exists()))]

    def forget(self, owner_id: UUID, deployment: str) -> None:
        """Counts the deployment from nothing again."""
        mine = within(Reach.of(owner_id), AnswerCountRow.owner_id), AnswerCountRow.deployment == deployment
        self._session.execute(delete(AnswerCountRow).where(*mine))


def quantile_s(counts: Mapping[float, int], share: float) -> float | None:
    """The time within which that share was answered, from counts by bucket; None without any.

    Within a bucket they count as spread evenly; beyond the last bound it is that bound.
    """
    wanted, so_far, lower_s = share * sum(counts.values()), 0, 0.0
    for bound_s in ANSWER_BUCKETS_S:
        count = counts.get(bound_s, 0)
        if count and so_far + count >= wanted:
            return lower_s if bound_s == float("inf") else lower_s + (bound_s - lower_s) * (wanted - so_far) / count
        so_far, lower_s = so_far + count, bound_s
    return None
