"""What is found out about a pipeline before anything of it is queued: each step as if it were submitted by itself.

References to what others own, and to what is registered, are frozen now. What an earlier step will make is not there:
the model that its training begins with stands for it (the same tokenizer, the same size), and the profile of the rows
that it reads, with the columns that it adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from api.jobs.inspecting import Asking
from api.jobs.preparing import check_room, frozen_inputs, inspected, memory_bytes_of, refuse_by_profile
from api.parts import Parts
from api.pipelines.conditions import check_models
from api.pipelines.expecting import Expected
from api.pipelines.serving import prepare_alias, prepare_deployment
from api.references.freezing import Frozen
from jobspecs.frozen import FrozenInputs
from jobspecs.kinds.base import ADAPTER_BASE_SUFFIX, BASE_ROLE, SpecBase
from jobspecs.pipelines.document import Pipeline, PipelineStep
from jobspecs.pipelines.frozen import StepInputs
from jobspecs.pipelines.steps import AliasStep, DeployStep
from jobspecs.problems import PROBLEMS_MAX, InvalidInput, Problem
from jobspecs.rights import Principal
from scheduling.estimates.estimating import TYPICAL_WEIGHTS_BYTES
from storage.repositories.jobs.pipelines import NewStep


def prepare(parts: Parts, user: Principal, pipeline: Pipeline, gone: Callable[[], bool]) -> list[NewStep]:
    """Every step as it will be stored, in the order of the document.

    Raises InvalidInput with the problems of all steps. No transaction is open while data and models are looked at.
    """
    problems: list[Problem] = list(check_models(parts, user, pipeline))
    expected: dict[str, Expected] = {}
    made: dict[str, NewStep] = {}
    for step in pipeline.in_order():
        if any(name not in made for name in step.needs):
            # What it reads is not known, for that has problems of its own.
            continue
        try:
            made[step.name], expected[step.name] = _prepared(parts, user, step, expected, gone)
        except InvalidInput as error:
            problems += [_located(step, problem) for problem in error.problems]
    if problems:
        raise InvalidInput(problems[:PROBLEMS_MAX])
    return [made[step.name] for step in pipeline.steps]


def _prepared(
    parts: Parts, user: Principal, step: PipelineStep, expected: Mapping[str, Expected], gone: Callable[[], bool]
) -> tuple[NewStep, Expected]:
    if isinstance(step.spec, DeployStep):
        made_by = step.models.get(BASE_ROLE)
        stand_in = expected[made_by] if made_by is not None else None
        inputs, memory_bytes = prepare_deployment(parts, user, step.spec, stand_in, {*step.models})
        return _stored(step, inputs, memory_bytes), Expected()
    if isinstance(step.spec, AliasStep):
        return _stored(step, prepare_alias(parts, user, step.spec, is_made=BASE_ROLE in step.models)), Expected()
    return _job(parts, user, step, step.spec, expected, gone)


def _job(
    parts: Parts,
    user: Principal,
    step: PipelineStep,
    spec: SpecBase,
    expected: Mapping[str, Expected],
    gone: Callable[[], bool],
) -> tuple[NewStep, Expected]:
    left_open = {*step.models, *step.datasets}
    frozen = frozen_inputs(parts, user, spec, left_open)
    known = _with_stand_ins(frozen, step, expected)
    if not step.datasets:
        refuse_by_profile(spec, known)
    elif known.profile is not None and (absent := spec.absent_columns(known.profile)):
        raise InvalidInput(absent)
    found = inspected(parts, Asking(user.user_id, gone), spec, known)
    if found.report is not None and found.report.problems:
        raise InvalidInput(found.report.problems)
    memory_bytes = memory_bytes_of(spec, found.estimate)
    with parts.database.unit_of_work() as work:
        check_room(work, memory_bytes, spec.resources.gpus)
    told = {"checked": found.checked and not left_open, "estimate": found.estimate}
    inputs = frozen.inputs.model_copy(update=told)
    warnings = found.report.warnings if found.report is not None else ()
    return _stored(step, inputs, memory_bytes, warnings), _expected_of(spec, known)


def _with_stand_ins(frozen: Frozen, step: PipelineStep, expected: Mapping[str, Expected]) -> Frozen:
    """For looking at, not for keeping. Where one data set is not there yet none is looked at: rows of one tell what of
    another trains.
    """
    models = {role: model for role, maker in step.models.items() if (model := expected[maker].model) is not None}
    sizes = {role: expected[maker].weights_bytes for role, maker in step.models.items()}
    by_role = {**frozen.inputs.by_role(), **models}
    update = {"model": by_role.pop(BASE_ROLE, None), "models": by_role}
    if step.datasets:
        update |= {"dataset": None, "held_out": None, "test": None}
    profile = expected[step.datasets["dataset"]].profile if "dataset" in step.datasets else frozen.profile
    return replace(
        frozen,
        inputs=frozen.inputs.model_copy(update=update),
        profile=profile,
        weights_bytes={**frozen.weights_bytes, **sizes},
    )


def _expected_of(spec: SpecBase, known: Frozen) -> Expected:
    models = known.inputs.by_role()
    base = models.get(BASE_ROLE + ADAPTER_BASE_SUFFIX) or models.get(BASE_ROLE)
    return Expected(
        model=base,
        weights_bytes=known.weights_bytes.get(BASE_ROLE, TYPICAL_WEIGHTS_BYTES),
        profile=spec.profile_made(known.profile) if known.profile is not None else None,
    )


def _stored(
    step: PipelineStep, inputs: FrozenInputs | StepInputs, memory_bytes: int = 0, warnings: Sequence[Problem] = ()
) -> NewStep:
    whole = inputs if isinstance(inputs, StepInputs) else StepInputs(frozen=inputs)
    return NewStep(
        name=step.name,
        kind=step.kind,
        spec=step.document,
        condition=step.when,
        needs=step.needs,
        inputs=whole.model_copy(update={"models": dict(step.models), "datasets": dict(step.datasets)}),
        memory_bytes=memory_bytes,
        warnings=[warning.model_dump(mode="json") for warning in warnings],
    )


def _located(step: PipelineStep, problem: Problem) -> Problem:
    """The problem with its field in the whole document."""
    field = f"steps.{step.name}.{problem.field}" if problem.field else f"steps.{step.name}"
    return problem.model_copy(update={"field": field})
