"""What jobs have found out about registered models, beside the models."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from storage.tables.base import Base, CreatedAt
from storage.tables.datasets import DatasetVersionRow


class EvaluationRow(Base):
    """One model in one evaluation. Whoever may read the data set with its rows may read it."""

    __tablename__ = "evaluations"

    #: The data set that the job made.
    result_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_versions.id", ondelete="CASCADE"), primary_key=True)
    model_version_id: Mapped[UUID] = mapped_column(
        ForeignKey("model_versions.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    task: Mapped[str]
    #: The data set whose rows were asked, `owner/name@version`.
    dataset: Mapped[str]
    #: Independent rows, queries or texts that were judged, and what they are called.
    judged: Mapped[int]
    unit: Mapped[str]
    #: Figure -> value, low and high: the ends of its 95 % interval.
    figures: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]

    result: Mapped[DatasetVersionRow] = relationship(lazy="joined", innerjoin=True)
