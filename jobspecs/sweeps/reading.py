"""Reads a sweep and checks it as a whole: every field, value and combination, before anything is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from jobspecs.figures import figures_of_kind
from jobspecs.kinds.base import SpecBase
from jobspecs.kinds.finetune_llm import LlmTraining
from jobspecs.kinds.training import EncoderTraining
from jobspecs.pipelines.conditions import Figure
from jobspecs.problems import PROBLEMS_MAX, InvalidInput, Problem
from jobspecs.registry import JobSpec
from jobspecs.sweeps.document import Range
from jobspecs.sweeps.lifecycle import CONFIRMATION
from jobspecs.sweeps.meaning import Sweep, read_sweep
from jobspecs.sweeps.space import Values, told_values


def parse_sweep(document: Any) -> Sweep:
    """As `read_sweep`, with every value and, where they are known, every combination checked."""
    sweep = read_sweep(document)
    if problems := list(_of_specs(sweep))[:PROBLEMS_MAX]:
        raise InvalidInput(problems)
    return sweep


def _of_specs(sweep: Sweep) -> Iterator[Problem]:
    first = {dimension.field: dimension.ends[0] for dimension in sweep.dimensions}
    tried: list[JobSpec] = []
    found = [problem for problem in _of_spec(sweep, first, tried) if not _about(sweep, problem)]
    of_values = list(_of_values(sweep, first, tried))
    yield from found
    yield from of_values
    if found or of_values:
        return
    for number in range(1, sweep.trials + 1):
        values = sweep.point(number)
        if values is None:
            break
        own = list(_of_spec(sweep, values, tried))
        if own:
            message = f"the combination {told_values(values)} is refused: {own[0]}"
            yield Problem(field="over", message=message, remedy="Leave one of the values out.")
            return
    yield from _of_figures(sweep, tried)
    if sweep.confirms:
        yield from _of_spec(sweep, first, [], CONFIRMATION)


def _of_values(sweep: Sweep, first: Values, tried: list[JobSpec]) -> Iterator[Problem]:
    for dimension in sweep.dimensions:
        places = ("low", "high") if isinstance(dimension.domain, Range) else range(len(dimension.ends))
        field, found = f"over.{dimension.field}", []
        for place, value in zip(places, dimension.ends, strict=True):
            own = [
                problem
                for problem in _of_spec(sweep, {**first, dimension.field: value}, tried)
                if _about(sweep, problem) == dimension.field
            ]
            found += [(place, value, problem) for problem in own]
        if len(found) == len(dimension.ends) and len({problem.message for _, _, problem in found}) == 1:
            # It is the field that is wrong, or no value does.
            yield found[0][2].model_copy(update={"field": field})
            continue
        for place, value, problem in found:
            message = f"{str(value)[:60]} is refused: {problem.message}"
            yield problem.model_copy(update={"field": f"{field}.{place}", "message": message})


def _about(sweep: Sweep, problem: Problem) -> str | None:
    """The searched field that a problem of a trial's spec is about."""
    inner = (problem.field or "").removeprefix("spec.")
    for dimension in sweep.dimensions:
        if inner == dimension.field or inner.startswith((f"{dimension.field}.", f"{dimension.field}[")):
            return dimension.field
    return None


def _of_spec(sweep: Sweep, values: Values, tried: list[JobSpec], number: int = 1) -> list[Problem]:
    """What is wrong with the spec that these values make; else it is added to those that were `tried`."""
    try:
        spec = sweep.spec_of(values, number)
        if problems := spec.problems_of_resources():
            raise InvalidInput(problems)
    except InvalidInput as error:
        return [
            problem.model_copy(update={"field": f"spec.{problem.field}" if problem.field else "spec"})
            for problem in error.problems
        ]
    tried.append(spec)
    return []


def _of_figures(sweep: Sweep, tried: Sequence[JobSpec]) -> Iterator[Problem]:
    """That some trial would not measure what decides, or nothing while it trains that halving could go by."""
    for spec in tried:
        known = figures_of_kind(spec)
        if not any(known & {*Figure("", name).names()} for name in sweep.figures):
            names = sorted({name.removesuffix("_low").removesuffix("_high") for name in known})
            if sweep.figures:
                message = f"{sweep.figures[0]}: {spec.kind} as it is set there measures no such figure."
            else:
                message = (
                    f"the field is missing: nothing says by which figure jobs of the kind {spec.kind} are compared."
                )
            yield Problem(field="metric", message=message, remedy=f"It may measure: {', '.join(names) or 'nothing'}.")
            break
    if sweep.document.halving is None:
        return
    blind = next((spec for spec in tried if not looks_while_training(spec)), None)
    if blind is not None:
        training = getattr(blind, "training", None)
        remedy = "Leave halving out."
        if isinstance(training, EncoderTraining):
            remedy = "Write training.epochs: auto in the spec, or leave halving out."
        elif isinstance(training, LlmTraining):
            remedy = "Write training.keep_best: true or training.early_stopping in the spec, or leave halving out."
        message = f"{blind.kind} as it is set there measures nothing held out while it trains."
        yield Problem(field="halving", message=message, remedy=remedy)


def looks_while_training(spec: SpecBase) -> bool:
    """Whether a job with this spec tells a loss of rows held out while it trains."""
    training = getattr(spec, "training", None)
    if isinstance(training, LlmTraining):
        return training.looks
    return isinstance(training, EncoderTraining) and training.epochs == "auto"
