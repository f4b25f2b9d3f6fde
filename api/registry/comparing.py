"""Two versions beside each other: what their jobs were told, their figures, and the rows on which they differ."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fastapi import Request
from pydantic import BaseModel

from api.foreign_files import FILE_LIMITS
from api.parts import Parts
from api.registry.service import find
from jobspecs.lineage import Lineage
from jobspecs.manifest import PREDICTIONS_PATH, Manifest
from jobspecs.references import Reference
from jobspecs.rights import Principal
from storage.tables import ModelVersionRow

#: Seconds that the object store has to give out both files.
_SECONDS_MAX = 60.0
_REMEDY = "Compare the figures, or download both: eigenwerk models predictions NAME@V"


class Difference(BaseModel):
    """A field of the spec, or an input, that is not the same; null where one has none."""

    field: str
    first: Any
    second: Any


class Figure(BaseModel):
    """A figure as each job measured it, with its own 95 % interval where it has one."""

    name: str
    first: float | None
    first_low: float | None
    first_high: float | None
    second: float | None
    second_low: float | None
    second_high: float | None


class ChangedRow(BaseModel):
    """`row`: its number in the data set's file, from 1. Labels and what was said are those of a classifier."""

    row: int
    label: str | None
    first: float
    second: float
    first_said: str | None
    second_said: str | None


class RowByRow(BaseModel):
    """On the same rows. `difference`: second less first, with the 95 % interval of the paired bootstrap."""

    measure: str
    #: Rows, or queries, that were judged.
    units: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    #: Units that the second has better, and worse.
    better: int
    worse: int
    #: Those that changed most, at most 20.
    changed: list[ChangedRow]


class ModelComparison(BaseModel):
    object: Literal["model.comparison"] = "model.comparison"
    #: `owner/name@version`.
    first: str
    second: str
    differences: list[Difference]
    figures: list[Figure]
    rows: RowByRow | None
    #: Why there is no comparison row by row.
    why_not: str | None


async def compare(
    parts: Parts, request: Request, user: Principal, first: Reference, second: Reference
) -> ModelComparison:
    """Raises ApiError 404, and what `Readings.read` raises."""
    with tempfile.TemporaryDirectory(prefix="compare-", dir=parts.spool.folder) as name:
        folder = Path(name)
        both = await parts.lookups.run(partial(_fetched, parts, user, (first, second), folder))
        found: dict[str, Any] = {"why_not": _lacking(both)}
        if found["why_not"] is None:
            work = partial(_run, parts, folder)
            found = await parts.readings.read(request, user.user_id, PREDICTIONS_PATH, _REMEDY, work)
    why_not = found.pop("why_not", None)
    manifests = [Manifest.model_validate(row.manifest) for row in both]
    evaluated = await parts.lookups.run(partial(_evaluated, parts, user, both))
    return ModelComparison(
        first=both[0].full_name,
        second=both[1].full_name,
        differences=list(_differences(*(_told(row) for row in both))),
        figures=list(
            _figures(*({**manifest.metrics, **of} for manifest, of in zip(manifests, evaluated, strict=True)))
        ),
        rows=None if why_not is not None else RowByRow.model_validate(found),
        why_not=why_not,
    )


def _fetched(
    parts: Parts, user: Principal, references: tuple[Reference, Reference], folder: Path
) -> tuple[ModelVersionRow, ModelVersionRow]:
    """Both versions; their kept predictions are put into the folder where both have some."""
    with parts.database.unit_of_work() as work:
        first, second = (find(work, user.reach("models.read"), reference) for reference in references)
        kept = [file for row in (first, second) for file in work.blobs.files_of(row) if file.path == PREDICTIONS_PATH]
    if len(kept) == len(references):
        objects = parts.objects.within(_SECONDS_MAX)
        for file, path in zip(kept, _paths(folder), strict=True):
            objects.download_stored(file, path)
    return first, second


def _evaluated(parts: Parts, user: Principal, rows: tuple[ModelVersionRow, ModelVersionRow]) -> list[dict[str, float]]:
    """Figures of each by `DATA SET: figure`, of the newest evaluation on each data set."""
    found: list[dict[str, float]] = []
    with parts.database.unit_of_work() as work:
        for row in rows:
            figures: dict[str, float] = {}
            for one in reversed(work.evaluations.of_model(user.reach("datasets.read"), row.id)):
                for name, figure in one.figures.items():
                    ends = {"": figure["value"], "_low": figure["low"], "_high": figure["high"]}
                    figures |= {f"{one.dataset}: {name}{end}": value for end, value in ends.items()}
            found.append(figures)
    return found


def _lacking(rows: tuple[ModelVersionRow, ModelVersionRow]) -> str | None:
    for row in rows:
        if Manifest.model_validate(row.manifest).file(PREDICTIONS_PATH) is None:
            return f"{row.full_name} keeps no predictions: only models that were trained here do."
    return None


def _run(parts: Parts, folder: Path, should_stop: Any) -> dict[str, Any]:
    first, second = _paths(folder.resolve())
    found: dict[str, Any] = parts.confinement.run(
        "compare", {"first": first, "second": second}, FILE_LIMITS, should_stop
    )
    return found


def _paths(folder: Path) -> tuple[Path, Path]:
    return folder / "first.parquet", folder / "second.parquet"


def _told(row: ModelVersionRow) -> dict[str, Any]:
    """The spec with its fields by their paths, and what its references meant."""
    made = Lineage.model_validate(row.lineage or {})
    told = {"kind": made.kind, **dict(_flat(made.spec or {}, ""))}
    told |= {f"inputs.{data.role}": data.reference for data in made.datasets}
    told |= {f"inputs.{model.role}": model.reference for model in made.models}
    return told


def _flat(document: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    for field in sorted(first.keys() | second.keys()):
        if first.get(field) != second.get(field):
            yield Difference(field=field, first=first.get(field), second=second.get(field))


def _figures(first: Mapping[str, float], second: Mapping[str, float]) -> Iterator[Figure]:
    names = first.keys() | second.keys()
    ends = {f"{name}{end}" for name in names for end in ("_low", "_high")}
    for name in sorted(names - ends):
        yield Figure(
            name=name,
            first=first.get(name),
            first_low=first.get(f"{name}_low"),
            first_high=first.get(f"{name}_high"),
            second=second.get(name),
            second_low=second.get(f"{name}_low"),
            second_high=second.get(f"{name}_high"),
        )
