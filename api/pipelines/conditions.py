"""The models of the registry that conditions compare with: that they are there, and what they measured."""

from __future__ import annotations

from collections.abc import Iterator

from api.parts import Parts
from jobspecs.pipelines.conditions import Exists, figures_of
from jobspecs.pipelines.document import Pipeline
from jobspecs.problems import Problem
from jobspecs.references import parse_reference
from jobspecs.rights import Principal


def check_models(parts: Parts, user: Principal, pipeline: Pipeline) -> Iterator[Problem]:
    """What is wrong with them now. They are looked at again when a condition is: an alias may have moved by then."""
    reach = user.reach("models.read")
    may_lack = {
        figure.source
        for step in pipeline.steps
        if step.condition is not None
        for figure in figures_of(step.condition)
        if isinstance(figure, Exists)
    }
    with parts.database.unit_of_work() as work:
        found = {name: work.models.find(reach, parse_reference(text)) for name, text in pipeline.models.items()}
        metrics = {
            name: {
                **work.evaluations.figures_of(user.reach("datasets.read"), row.id),
                **(row.manifest.get("metrics") or {}),
            }
            if row is not None
            else None
            for name, row in found.items()
        }
    for name, measured in metrics.items():
        if measured is None and name not in may_lack:
            remedy = f"If it may be missing, as on the first run, say so: not ${name}.exists or …"
            message = f"you have no model {pipeline.models[name]}."
            yield Problem(field=f"models.{name}", message=message, remedy=remedy)
    for step in pipeline.steps:
        for figure in figures_of(step.condition) if step.condition is not None else ():
            measured = metrics.get(figure.source)
            if measured is None or isinstance(figure, Exists) or figure.value(metrics.get) is not None:
                continue
            message = f"{figure}: {pipeline.models[figure.source]} has no such figure."
            remedy = f"It has: {', '.join(sorted(measured)) or 'none at all'}."
            yield Problem(field=f"steps.{step.name}.when", message=message, remedy=remedy)
