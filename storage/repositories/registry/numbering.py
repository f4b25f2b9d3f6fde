"""What versions are numbered under: one transaction at a time gives out the numbers of a model or a data set."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from jobspecs.rights import Reach
from storage.repositories.owners import within
from storage.tables import DatasetRow, ModelRow

Row = TypeVar("Row", DatasetRow, ModelRow)


def lock_named(session: Session, table: type[Row], owner_id: UUID, name: str) -> Row:
    """The model or data set, made where there is none. The lock makes version numbers gapless when two pushes meet."""
    session.execute(
        insert(table).values(owner_id=owner_id, name=name).on_conflict_do_nothing(index_elements=["owner_id", "name"])
    )
    return session.scalars(
        select(table)
        .where(within(Reach.of(owner_id), table.owner_id), table.name == name)
        .with_for_update(of=table)
        .execution_options(populate_existing=True)
    ).one()
