"""What the document of a sweep means, without a look at its values: that is `jobspecs.sweeps.reading`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from pydantic import ValidationError

from jobspecs.figures import deciding_figures
from jobspecs.kinds.training import TrainingSpec
from jobspecs.pipelines.conditions import Figure
from jobspecs.problems import PROBLEMS_MAX, InvalidInput, Problem
from jobspecs.registry import SPECS, JobSpec, parse_spec
from jobspecs.sweeps.document import FIELD_PATTERN, KIND, TRIALS_MAX, VALUES_MAX, Confirmation, SweepDocument
from jobspecs.sweeps.lifecycle import CONFIRMATION
from jobspecs.sweeps.sampling import drawn_point
from jobspecs.sweeps.space import Dimension, NoSection, Values, point, points, with_values
from jobspecs.validation import problems_of

#: Fields that no trial may change, for trials would not be compared by the same rows and figure.
_FIXED = ("kind", "name", "metric", "validation", "test")
#: Fields that may change where rows of their own judge.
_FIXED_UNLESS_GIVEN = ("dataset", "rows")
_WHY_FIXED = {
    "kind": "a sweep is of one kind.",
    "name": "the winner's model has one name, and trials have the sweep's.",
}


@dataclass(frozen=True)
class Sweep:
    """A sweep whose document was read. `trials`: how many, at most."""

    document: SweepDocument
    dimensions: tuple[Dimension, ...]
    trials: int
    #: Names of the figure that decides, of which a trial measures one; empty: nothing says which.
    figures: tuple[str, ...]
    goal: Literal["max", "min"]
    confirms: bool

    @property
    def name(self) -> str:
        return self.document.name

    @property
    def rungs(self) -> tuple[int, ...]:
        """Steps at which a trial stops that is behind; empty without halving."""
        return self.document.halving.rungs() if self.document.halving is not None else ()

    @property
    def factor(self) -> int:
        return self.document.halving.factor if self.document.halving is not None else 1

    @property
    def max_time_s(self) -> float | None:
        return self.document.max_time.total_seconds() if self.document.max_time is not None else None

    def point(self, number: int) -> dict[str, Any] | None:
        """The values of trial `number`, counted from 1; None: earlier trials have a say (tpe)."""
        if self.document.method == "grid":
            return point(self.dimensions, number - 1)
        if self.document.method == "random":
            return drawn_point(self.dimensions, self.document.seed, number, self.trials)
        return None

    def spec_of(self, values: Values, number: int) -> JobSpec:
        """The spec of trial `number`, or of the CONFIRMATION. Raises InvalidInput as `parse_spec` does."""
        try:
            made = with_values(self.document.spec, values)
        except NoSection as error:
            raise InvalidInput([Problem(field=error.field, message=str(error))]) from error
        test = self._sealed
        if number != CONFIRMATION:
            made["name"] = f"{self.name[:_NAME_CHARS]}-trial"
        if test is not None:
            made["test"] = test if number == CONFIRMATION else {**test, "sealed": True}
        if len(self.figures) == 1 and self.figures[0] in _metrics_of(made) and made.get("metric", "auto") == "auto":
            # So that there is an interval of what decides.
            made["metric"] = self.figures[0]
        return parse_spec(made)

    @cached_property
    def _sealed(self) -> dict[str, Any] | None:
        """The section with the rows that confirm the winner."""
        if not self.confirms:
            return None
        named = self.document.spec.get("test")
        if named is not None:
            return named if isinstance(named, dict) else None
        drawn = self.document.confirm if isinstance(self.document.confirm, Confirmation) else Confirmation()
        return {"fraction": drawn.fraction, "seed": drawn.seed}

    def figure(self, metrics: Mapping[str, float]) -> tuple[float, float | None, float | None] | None:
        """The figure that decides and its 95 % interval; None where it was not measured."""
        for name in self.figures:
            value, low, high = (Figure("", name, end).value(lambda _: metrics) for end in _ENDS)
            if value is not None:
                return value, low, high
        return None


_ENDS: tuple[Literal["low", "high"] | None, ...] = (None, "low", "high")
_NAME_CHARS = 100


def read_sweep(document: Any) -> Sweep:
    """What a document means, without a look at its values. Raises InvalidInput naming each field that is wrong."""
    if not isinstance(document, dict):
        raise InvalidInput([Problem(message="a sweep is an object with fields.", remedy=f"Start with: kind: {KIND}")])
    try:
        read = SweepDocument.model_validate(document)
    except ValidationError as error:
        raise InvalidInput(problems_of(error, document)) from error
    if problems := [*_of_fields(read), *_of_size(read)]:
        raise InvalidInput(problems[:PROBLEMS_MAX])
    dimensions = tuple(Dimension(field, domain) for field, domain in read.over.items())
    total = points(dimensions)
    wanted = read.trials or TRIALS_MAX
    figures = (read.metric,) if read.metric is not None else _default_figures(read, dimensions)
    losses = any(word in name for name in figures for word in ("loss", "perplexity"))
    kind = SPECS.get(str(read.spec.get("kind")))
    return Sweep(
        document=read,
        dimensions=dimensions,
        trials=min(wanted, total) if total is not None else wanted,
        figures=figures,
        goal=read.goal or ("min" if losses else "max"),
        confirms=read.confirm is not False and kind is not None and issubclass(kind, TrainingSpec),
    )


def _of_fields(read: SweepDocument) -> Iterator[Problem]:
    given = read.spec.get("validation")
    has_rows = isinstance(given, dict) and given.get("dataset") is not None
    for field in read.over:
        if not re.fullmatch(FIELD_PATTERN, field):
            remedy = "Write names with dots between: training.learning_rate."
            yield Problem(field="over", message=f"{field[:60]!r} is no field of a spec.", remedy=remedy)
            continue
        first = field.partition(".")[0]
        if first in _FIXED or (first in _FIXED_UNLESS_GIVEN and not has_rows):
            why = _WHY_FIXED.get(first, "trials would not be compared by the same rows and figure.")
            name_rows = "Name rows that judge: spec.validation: {dataset: …}."
            yield Problem(
                field=f"over.{field}", message=why, remedy=name_rows if first in _FIXED_UNLESS_GIVEN else None
            )
        around = next((other for other in read.over if field.startswith(f"{other}.")), None)
        if around is not None:
            yield Problem(field=f"over.{field}", message=f"it is a part of {around}, which is searched too.")
    for field, domain in read.over.items():
        if isinstance(domain, list) and not domain:
            yield Problem(field=f"over.{field}", message="it has no value.", remedy="Name two or more.")
        elif isinstance(domain, list) and _repeats(domain):
            yield Problem(field=f"over.{field}", message="a value is there twice.", remedy="Remove one.")
    if read.confirm is not False and isinstance(read.confirm, Confirmation) and read.spec.get("test") is not None:
        message = "the spec's `test` says which rows confirm the winner."
        yield Problem(field="confirm", message=message, remedy="Remove one of the two.")


def _repeats(domain: Sequence[Any]) -> bool:
    """Each is compared with each: too many of them are refused for their number, unread."""
    return len(domain) <= VALUES_MAX and any(value in domain[:place] for place, value in enumerate(domain))


def _of_size(read: SweepDocument) -> Iterator[Problem]:
    for field, domain in read.over.items():
        if isinstance(domain, list) and len(domain) > VALUES_MAX:
            message = f"{len(domain):,} values; at most {VALUES_MAX:,} are allowed."
            yield Problem(field=f"over.{field}", message=message, remedy="Give a range: {low: …, high: …}.")
    if read.method != "grid":
        if read.trials is None:
            message = f"the field is missing: {read.method} takes as many trials as you say."
            yield Problem(field="trials", message=message, remedy=f"At most {TRIALS_MAX:,}.")
        return
    if read.trials is not None:
        remedy = "Leave it out, or write method: random."
        yield Problem(field="trials", message="a grid has a trial for each combination.", remedy=remedy)
    total = 1
    for field, domain in read.over.items():
        size = Dimension(field, domain).size
        if size is None:
            remedy = "Name its values, give it a step, or write method: tpe or random."
            yield Problem(field=f"over.{field}", message="a grid can't try every number of a range.", remedy=remedy)
        total *= size or 1
    if total > TRIALS_MAX:
        message = f"the grid has {total:,} combinations; at most {TRIALS_MAX:,} trials are allowed."
        yield Problem(field="over", message=message, remedy="Name fewer values, or write method: tpe and trials: 50.")


def _default_figures(read: SweepDocument, dimensions: Sequence[Dimension]) -> tuple[str, ...]:
    try:
        first = {dimension.field: dimension.ends[0] for dimension in dimensions}
        return deciding_figures(parse_spec(with_values(read.spec, first)))
    except (InvalidInput, NoSection):
        # What is wrong with it is told elsewhere.
        return ()


def _metrics_of(document: Mapping[str, Any]) -> frozenset[Any]:
    """What the field `metric` of such a spec may be; empty where it has none."""
    kind = SPECS.get(str(document.get("kind")))
    field = kind.model_fields.get("metric") if kind is not None else None
    return frozenset(value for part in get_args(field.annotation) for value in get_args(part)) if field else frozenset()
