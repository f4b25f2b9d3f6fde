"""Evaluations of models: written with the data set that a job made of them, read within a reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobspecs.evaluation import EvaluationReport
from jobspecs.frozen import FrozenModel, FrozenRegistryModel
from jobspecs.rights import Reach
from storage.repositories.owners import within
from storage.tables import DatasetRow, DatasetVersionRow, EvaluationRow, ModelVersionRow

#: Of one version, the newest; and what their figures are called beside those of its own manifest.
_SHOWN_MAX, _BELOW = 100, "evaluation"


class EvaluationRepository:
    """The evaluations table."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, result: DatasetVersionRow, found: EvaluationReport, models: Mapping[str, FrozenModel]) -> None:
        """Of every registered model; `models` by the report's roles. One that was deleted meanwhile is left out."""
        added = set[UUID]()
        for role, one in found.models.items():
            model = models.get(role)
            if not isinstance(model, FrozenRegistryModel) or model.version_id in added:
                continue
            if self._session.get(ModelVersionRow, model.version_id) is None:
                continue
            added.add(model.version_id)
            self._session.add(
                EvaluationRow(
                    result_id=result.id,
                    model_version_id=model.version_id,
                    task=found.task,
                    dataset=found.dataset,
                    judged=one.judged,
                    unit=one.unit,
                    figures={name: figure.model_dump() for name, figure in one.figures.items()},
                )
            )
        self._session.flush()

    def of_model(self, reach: Reach, version_id: UUID) -> Sequence[EvaluationRow]:
        """Those whose rows the reach may read, the newest first."""
        query = select(EvaluationRow).join(EvaluationRow.result).join(DatasetVersionRow.dataset)
        query = query.where(
            EvaluationRow.model_version_id == version_id, within(reach, DatasetRow.owner_id, DatasetRow.visibility)
        )
        return self._session.scalars(query.order_by(EvaluationRow.created_at.desc()).limit(_SHOWN_MAX)).unique().all()

    def figures_of(self, reach: Reach, version_id: UUID) -> dict[str, float]:
        """What the newest evaluations found, by `evaluation/NAME`, `evaluation/NAME_low` and `evaluation/NAME_high`."""
        found: dict[str, float] = {}
        for row in reversed(self.of_model(reach, version_id)):
            for name, figure in row.figures.items():
                ends = {"": figure["value"], "_low": figure["low"], "_high": figure["high"]}
                found |= {f"{_BELOW}/{name}{end}": value for end, value in ends.items()}
        return found
