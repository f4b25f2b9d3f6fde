"""Aliases of models: where each points, and every move that it made."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from storage.repositories.deliveries import DeliveryRepository
from storage.tables import ModelAliasMoveRow, ModelAliasRow, ModelRow, ModelVersionRow


class NothingBefore(Exception):
    """The alias never pointed anywhere else. The message is for people."""


class Unverified(Exception):
    """The version does not do in its engine what its source does, and nobody forced the alias. The message is for
    people."""


class AliasRepository:
    """The model_aliases and model_alias_moves tables. Callers have found the model in their reach.

    Versions are numbers of the model's; that one exists, and goes on to, is for the caller to see (`models.hold`).
    """

    def __init__(self, session: Session, deliveries: DeliveryRepository) -> None:
        self._session = session
        self._deliveries = deliveries

    def of_model(self, model_id: UUID) -> Sequence[ModelAliasRow]:
        query = select(ModelAliasRow).where(ModelAliasRow.model_id == model_id)
        return self._session.scalars(query.order_by(ModelAliasRow.alias)).all()

    def points_at(self, model_id: UUID, alias: str) -> int | None:
        """The version that it means now; None when there is no such alias."""
        this = (ModelAliasRow.model_id == model_id, ModelAliasRow.alias == alias)
        return self._session.scalar(select(ModelAliasRow.version).where(*this))

    def moves(self, model_id: UUID, alias: str) -> Sequence[ModelAliasMoveRow]:
        """Its history, the oldest move first."""
        this = (ModelAliasMoveRow.model_id == model_id, ModelAliasMoveRow.alias == alias)
        return self._session.scalars(select(ModelAliasMoveRow).where(*this).order_by(ModelAliasMoveRow.number)).all()

    def set(
        self, model_id: UUID, alias: str, version: int, *, actor: str, reason: str | None = None, force: bool = False
    ) -> int | None:
        """Points it at the version; tells where it pointed before. Set to what it means already, it has not moved.

        Raises Unverified, unless with `force`, which its history keeps.
        """
        self._lock(model_id)
        before = self.points_at(model_id, alias)
        if before != version:
            forced = self._forced(model_id, version, force)
            self._move("set", model_id, alias, before, version, actor, reason, forced)
        return before

    def before(self, model_id: UUID, alias: str) -> int:
        """Where a roll-back leads. It stays so until this transaction has ended. Raises NothingBefore."""
        self._lock(model_id)
        places = _places(self.moves(model_id, alias))
        _step_back(places)
        if not places or places[-1] is None:
            raise NothingBefore(f"{alias} never pointed at another version.")
        return places[-1]

    def roll_back(
        self, model_id: UUID, alias: str, version: int, *, actor: str, reason: str | None = None, force: bool = False
    ) -> None:
        """Takes back the last move that was not taken back yet; `version` is what `before` said.

        Raises Unverified as `set` does.
        """
        forced = self._forced(model_id, version, force)
        self._move("rollback", model_id, alias, self.points_at(model_id, alias), version, actor, reason, forced)

    def delete(self, model_id: UUID, alias: str, *, actor: str, reason: str | None = None) -> bool:
        """False when there is no such alias. Its history stays, and a roll-back brings it back."""
        self._lock(model_id)
        before = self.points_at(model_id, alias)
        if before is not None:
            self._move("delete", model_id, alias, before, None, actor, reason)
        return before is not None

    def _lock(self, model_id: UUID) -> None:
        self._session.execute(select(ModelRow.id).where(ModelRow.id == model_id).with_for_update())

    def _forced(self, model_id: UUID, version: int, force: bool) -> bool:
        """Whether it takes force to point there. Raises Unverified where it does and there is none."""
        this = (ModelVersionRow.model_id == model_id, ModelVersionRow.version == version)
        cause = self._session.scalar(select(ModelVersionRow.verification_cause).where(*this))
        if cause is not None and not force:
            raise Unverified(f"version {version} is unverified: in its engine it does not do as its source ({cause}).")
        return cause is not None

    def _move(
        self,
        kind: str,
        model_id: UUID,
        alias: str,
        version_from: int | None,
        version_to: int | None,
        actor: str,
        reason: str | None,
        forced: bool = False,
    ) -> None:
        this = (ModelAliasMoveRow.model_id == model_id, ModelAliasMoveRow.alias == alias)
        last = self._session.scalar(select(func.max(ModelAliasMoveRow.number)).where(*this))
        move = ModelAliasMoveRow(
            model_id=model_id,
            alias=alias,
            number=(last or 0) + 1,
            kind=kind,
            version_from=version_from,
            version_to=version_to,
            actor=actor,
            reason=reason,
            forced=forced,
        )
        self._session.add(move)
        self._session.flush()
        self._deliveries.tell_of_move(self._session.get_one(ModelRow, model_id), move)
        if version_to is None:
            gone = (ModelAliasRow.model_id == model_id, ModelAliasRow.alias == alias)
            self._session.execute(delete(ModelAliasRow).where(*gone))
            return
        values = {"version": version_to, "updated_at": func.clock_timestamp()}
        self._session.execute(
            insert(ModelAliasRow)
            .values(model_id=model_id, alias=alias, version=version_to)
            .on_conflict_do_update(index_elements=["model_id", "alias"], set_=values)
        )


def _places(moves: Sequence[ModelAliasMoveRow]) -> list[int | None]:
    """Where it has pointed, now last, without what was taken back. None: it was deleted then."""
    # Moves from before they were written down are known by where the first of these began.
    places: list[int | None] = [moves[0].version_from] if moves and moves[0].version_from is not None else []
    for move in moves:
        if move.kind == "rollback":
            _step_back(places)
        else:
            places.append(move.version_to)
    return places


def _step_back(places: list[int | None]) -> None:
    """To the last place before this one that is a version."""
    del places[-1:]
    while places and places[-1] is None:
        del places[-1]
