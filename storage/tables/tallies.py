"""What has happened so far, counted: figures that only ever rise, whatever is deleted."""

from __future__ import annotations

from sqlalchemy import BigInteger, Identity
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base


class TallyRow(Base):
    """Something that happened `count` times. Equal rows add up; the leading scheduler folds them into one each.

    Rows are added and never raised: a counter that everybody raises would be a lock that everybody waits for.
    """

    __tablename__ = "tallies"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    #: A `storage.repositories.tallies.Event`.
    event: Mapped[str]
    #: The job's kind (of tokens: the model's task), the state that it went to, and the reason; empty where the event
    #: has none.
    kind: Mapped[str] = mapped_column(default="", server_default="")
    state: Mapped[str] = mapped_column(default="", server_default="")
    reason: Mapped[str] = mapped_column(default="", server_default="")
    #: The upper bound of the duration's bucket in seconds; null where there is no duration.
    seconds_max: Mapped[float | None]
    count: Mapped[int] = mapped_column(BigInteger)
    #: All durations together.
    seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")
