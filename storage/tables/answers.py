"""How deployed models have answered, counted."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.base import Base


class AnswerCountRow(Base):
    """Requests to a deployment that one version answered, or failed to, within the same bucket of time."""

    __tablename__ = "answer_counts"

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("owners.id", ondelete="CASCADE"), primary_key=True)
    #: By its name: no foreign key, it may have been ended before what it answered is written.
    deployment: Mapped[str] = mapped_column(primary_key=True)
    #: `owner/name@version`, or what an external engine calls its model.
    model: Mapped[str] = mapped_column(primary_key=True)
    failed: Mapped[bool] = mapped_column(primary_key=True)
    #: The bucket's upper bound.
    seconds_max: Mapped[float] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)
    #: All of them together.
    seconds: Mapped[float]
