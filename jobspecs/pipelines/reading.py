"""Reads a pipeline and checks it as a whole: every spec, reference and condition, before anything is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from jobspecs.figures import figures_of_kind
from jobspecs.kinds.base import SpecBase
from jobspecs.pipelines.conditions import Condition, ConditionError, Exists, Figure, figures_of, parse_condition
from jobspecs.pipelines.document import KIND, Beside, Pipeline, PipelineDocument, PipelineStep
from jobspecs.pipelines.order import problem_of_circle
from jobspecs.pipelines.references import Product, StepReference, references_in, substituted
from jobspecs.pipelines.steps import STEP_KINDS, AliasStep, DeployStep, StepSpec
from jobspecs.problems import PROBLEMS_MAX, InvalidInput, Problem
from jobspecs.references import NAME_PATTERN, parse_reference
from jobspecs.registry import SPECS, parse_spec
from jobspecs.validation import problems_of

#: What a step says beside its spec.
_OWN = tuple(Beside.model_fields)
#: Versions that no model has stand for what steps will make while a spec is checked.
_STAND_IN_VERSION = 2**31 - 1
_WHAT: Mapping[Product, str] = {"model": "model", "dataset": "data set"}


def parse_pipeline(document: Any) -> Pipeline:
    """Raises InvalidInput, which names each field that is wrong."""
    if not isinstance(document, dict):
        message = "a pipeline is an object with fields."
        raise InvalidInput([Problem(message=message, remedy=f"Start with: kind: {KIND}")])
    try:
        read = PipelineDocument.model_validate(document)
    except ValidationError as error:
        raise InvalidInput(problems_of(error, document)) from error
    reading = _Reading(read)
    steps = [step for name in read.steps if (step := reading.step(name)) is not None]
    if reading.problems:
        raise InvalidInput(reading.problems[:PROBLEMS_MAX])
    if circle := problem_of_circle({step.name: step.needs for step in steps}):
        raise InvalidInput([circle])
    return Pipeline(read.name, read.reuse, dict(read.models), tuple(steps))


@dataclass
class _Reading:
    """One pass over a document; `problems` has all that is wrong."""

    document: PipelineDocument
    problems: list[Problem] = field(default_factory=list)
    _specs: dict[str, StepSpec | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        both = sorted(self.document.models.keys() & self.document.steps.keys())
        self.problems += [
            Problem(field=f"models.{name}", message=f"a step is called {name} too.", remedy="Rename one of the two.")
            for name in both
        ]
        self.problems += [
            Problem(
                field=f"models.{name}",
                message=f"{reference} is of a hub, where nothing was measured by us.",
                remedy="Name a model of the registry.",
            )
            for name, reference in self.document.models.items()
            if parse_reference(reference).source == "hub"
        ]

    def step(self, name: str) -> PipelineStep | None:
        """None when something is wrong with it."""
        known = len(self.problems)
        written = self.document.steps[name]
        spec = self._spec(name)
        beside = self._beside(name, written)
        models, datasets = self._inputs(name, written, spec) if spec is not None else ({}, {})
        condition = self._condition(name, beside.when) if beside.when is not None else None
        for index, other in enumerate(beside.after):
            if other not in self.document.steps:
                self._add(name, f"after.{index}", f"there is no step {other}.", self._known())
        if spec is None or len(self.problems) > known:
            return None
        compared = {one.source for one in figures_of(condition)} if condition is not None else set()
        needed = {*models.values(), *datasets.values(), *beside.after, *compared}
        return PipelineStep(
            name=name,
            document=_without_own(written),
            spec=spec,
            models=models,
            datasets=datasets,
            when=beside.when,
            condition=condition,
            needs=tuple(other for other in self.document.steps if other in needed),
        )

    def _spec(self, name: str) -> StepSpec | None:
        """The step's spec with a stand-in for each reference to a step; looked at once, whoever refers to it."""
        if name not in self._specs:
            self._specs[name] = None  # of a step that refers to itself
            self._specs[name] = self._read(name)
        return self._specs[name]

    def _read(self, name: str) -> StepSpec | None:
        written = _without_own(self.document.steps[name])
        stand_ins = self._stand_ins(written)
        told = substituted(written, lambda reference: stand_ins[reference])
        kind = told.get("kind")
        try:
            if isinstance(kind, str) and kind in STEP_KINDS:
                return STEP_KINDS[kind].model_validate(told)
            if not isinstance(kind, str) or kind not in SPECS:
                known = ", ".join([*SPECS, *STEP_KINDS])
                message = "the field is missing." if kind is None else f"{kind!r} is no kind of step."
                raise InvalidInput([Problem(field="kind", message=message, remedy=f"One of: {known}.")])
            spec = parse_spec(told)
            if problems := spec.problems_of_resources():
                raise InvalidInput(problems)
            return spec
        except ValidationError as error:
            found: Sequence[Problem] = problems_of(error, told)
        except InvalidInput as error:
            found = error.problems
        self.problems += [problem.model_copy(update={"field": _below(name, problem.field)}) for problem in found]
        return None

    def _stand_ins(self, written: Any) -> dict[StepReference, str]:
        found = dict.fromkeys(reference for _, reference in references_in(written))
        return {
            reference: f"{self._made_by(reference.step)}@{_STAND_IN_VERSION - number}"
            for number, reference in enumerate(found)
        }

    def _made_by(self, step: str) -> str:
        """The name of what the step makes; of no use where it makes nothing, which is told elsewhere."""
        name = self.document.steps.get(step, {}).get("name")
        return name if isinstance(name, str) and re.fullmatch(NAME_PATTERN, name) else step

    def _inputs(self, name: str, written: Mapping[str, Any], spec: StepSpec) -> tuple[dict[str, str], dict[str, str]]:
        """The roles of models and data sets that steps make, each with the step."""
        stand_ins = self._stand_ins(_without_own(written))
        meant = {text: reference for reference, text in stand_ins.items()}
        models, datasets = spec.model_references(), spec.dataset_references() if isinstance(spec, SpecBase) else {}
        read: dict[Product, dict[str, str]] = {
            "model": {role: meant[text].step for role, text in models.items() if text in meant},
            "dataset": {role: meant[text].step for role, text in datasets.items() if text in meant},
        }
        used = {text for text in (*models.values(), *datasets.values()) if text in meant}
        for place, reference in references_in(_without_own(written)):
            where: Product = "dataset" if stand_ins[reference] in datasets.values() else "model"
            if stand_ins[reference] not in used:
                self._add(name, place, f"this field reads nothing that a step makes: {reference}.", "Write a value.")
            else:
                self._check_product(name, place, reference, where)
        return read["model"], read["dataset"]

    def _check_product(self, name: str, place: str, reference: StepReference, wanted: Product) -> None:
        if reference.step not in self.document.steps:
            self._add(name, place, f"there is no step {reference.step}.", self._known())
            return
        maker = self._spec(reference.step)
        if maker is None:
            return
        made = _product_of(maker)
        if made is None:
            remedy = "Refer to a job that makes one."
            self._add(name, place, f"the step {reference.step} makes no {_WHAT[wanted]}.", remedy)
        elif reference.product != made or made != wanted:
            message = f"{reference} is not there: the step {reference.step} makes a {_WHAT[made]}"
            message += f", and a {_WHAT[wanted]} is read here." if made != wanted else "."
            self._add(name, place, message, f"Write ${reference.step}.{made}." if made == wanted else None)

    def _beside(self, name: str, written: Mapping[str, Any]) -> Beside:
        own = {key: written[key] for key in _OWN if key in written}
        try:
            return Beside.model_validate(own)
        except ValidationError as error:
            self.problems += [
                problem.model_copy(update={"field": _below(name, problem.field)}) for problem in problems_of(error, own)
            ]
            return Beside()

    def _condition(self, name: str, text: str) -> Condition | None:
        try:
            condition = parse_condition(text)
        except ConditionError as error:
            remedy = "Compare figures: $train.macro_f1.low > 0.8 and not $prod.exists"
            self._add(name, "when", f"this is no condition: {error}", remedy)
            return None
        for one in figures_of(condition):
            self._check_figure(name, one)
        return condition

    def _check_figure(self, name: str, one: Figure | Exists) -> None:
        if one.source in self.document.models:
            return
        if one.source not in self.document.steps:
            remedy = f"{self._known()} A model of the registry is named in `models`: {{{one.source}: NAME@ALIAS}}."
            self._add(name, "when", f"there is no step or model {one.source}.", remedy)
            return
        if isinstance(one, Exists):
            remedy = "A step is there once it has succeeded; leave it out."
            self._add(name, "when", f"{one}: `exists` is for models of the registry.", remedy)
            return
        spec = self._spec(one.source)
        if spec is None:
            return
        known = figures_of_kind(spec) if isinstance(spec, SpecBase) else frozenset[str]()
        if not known & {*one.names()}:
            self._add(name, "when", f"{one}: {spec.kind} as it is set there measures no such figure.", _figures(known))

    def _known(self) -> str:
        return f"Steps are: {', '.join(self.document.steps)}."

    def _add(self, step: str, place: str, message: str, remedy: str | None = None) -> None:
        self.problems.append(Problem(field=f"steps.{step}.{place}", message=message, remedy=remedy))


def _without_own(written: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in written.items() if key not in _OWN}


def _below(step: str, within: str | None) -> str:
    return f"steps.{step}.{within}" if within else f"steps.{step}"


def _product_of(spec: StepSpec) -> Product | None:
    return None if isinstance(spec, DeployStep | AliasStep) else spec.RESULT


def _figures(known: frozenset[str]) -> str:
    names = sorted({name.removesuffix("_low").removesuffix("_high") for name in known})
    if not names:
        return "Only jobs measure something."
    with_interval = {name for name in names if f"{name}_low" in known}
    told = ", ".join(f"{name}{' (.low, .high)' if name in with_interval else ''}" for name in names)
    return f"It may measure: {told}."
