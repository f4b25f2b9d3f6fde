"""What is known of a pipeline: its steps as `scheduling.pipelines` wants them, and what they made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobspecs.lifecycle import JobState
from jobspecs.pipelines.conditions import Metrics, figures_of, parse_condition
from jobspecs.pipelines.frozen import StepOutput
from jobspecs.pipelines.lifecycle import PipelineState, StepReason, StepState
from jobspecs.pipelines.steps import STEP_KINDS
from jobspecs.references import parse_reference
from jobspecs.rights import Reach
from scheduling.pipelines import Outcome, Snapshot, Step
from storage.database import UnitOfWork
from storage.tables import JobRow, PipelineRow, PipelineStepRow
from workers.scheduler.pipelines.earlier import earlier_success
from workers.scheduler.pipelines.outputs import output_of

_ENDED_BADLY = {
    JobState.failed: (StepState.failed, StepReason.job_failed),
    JobState.cancelled: (StepState.cancelled, StepReason.job_cancelled),
}


@dataclass(frozen=True)
class Known:
    """`outputs`: of each step that has succeeded, or just now does."""

    snapshot: Snapshot
    steps: Mapping[str, PipelineStepRow]
    outputs: Mapping[str, StepOutput]


def look_at(work: UnitOfWork, row: PipelineRow) -> Known:
    """Reads all that a decision may depend on. Models that a condition is about to compare stay as they are until the
    transaction has ended, so that no worse one takes the place of one that was put there meanwhile.
    """
    rows = work.pipelines.steps(row.id)
    jobs = work.pipelines.jobs_of([step for step in rows if step.state == StepState.running])
    outputs = {step.name: StepOutput.model_validate(step.output) for step in rows if step.output is not None}
    states = {step.name: step.state for step in rows}
    reuses = bool(row.document.get("reuse"))
    steps = []
    for step in rows:
        outcome = None
        if step.state == StepState.running:
            outcome, made = _outcome(work, step, jobs.get(step.job_id) if step.job_id is not None else None)
            if made is not None:
                outputs[step.name] = made
        output = outputs.get(step.name) if step.state == StepState.succeeded else None
        may_reuse = reuses and step.state == StepState.waiting and step.kind not in STEP_KINDS
        is_ready = may_reuse and all(states[name] == StepState.succeeded for name in step.needs)
        steps.append(
            Step(
                name=step.name,
                state=StepState(step.state),
                needs=tuple(step.needs),
                condition=parse_condition(step.condition) if step.condition is not None else None,
                metrics=output.metrics if output is not None else {},
                outcome=outcome,
                earlier=earlier_success(work, row, step, outputs) if is_ready else None,
            )
        )
    cancelling = row.state == PipelineState.cancelling
    models = {} if cancelling else _compared(work, row, steps)
    return Known(Snapshot(steps, models, cancelling), {step.name: step for step in rows}, outputs)


def _outcome(work: UnitOfWork, step: PipelineStepRow, job: JobRow | None) -> tuple[Outcome | None, StepOutput | None]:
    """How what the step runs has ended, None while it has not; and what it made."""
    if step.kind in STEP_KINDS:
        return _served(work, step), None
    if job is None:
        return Outcome(StepState.failed, StepReason.job_deleted, "Its job was deleted."), None
    state = JobState(job.state)
    if state is JobState.succeeded:
        made = output_of(work, job.id)
        if made is None:
            return Outcome(StepState.failed, StepReason.input_deleted, "What it made was deleted."), None
        return Outcome(StepState.succeeded), made
    if state not in _ENDED_BADLY:
        return None, None
    target, reason = _ENDED_BADLY[state]
    told = ": ".join(part for part in (job.reason, job.message) if part)
    return Outcome(target, reason, told or None), None


def _served(work: UnitOfWork, step: PipelineStepRow) -> Outcome | None:
    deployment = work.pipelines.deployment_of(step)
    if deployment is None or not deployment.wanted:
        return Outcome(StepState.failed, StepReason.deployment_changed, "It was undeployed before it was ready.")
    shares = work.deployments.shares(deployment)
    for share in shares:
        if share.state == "failed":
            told = ": ".join(part for part in (share.reason, share.message) if part)
            return Outcome(StepState.failed, StepReason.deployment_failed, told or None)
    return Outcome(StepState.succeeded) if all(share.state == "ready" for share in shares) else None


def _compared(work: UnitOfWork, row: PipelineRow, steps: Sequence[Step]) -> dict[str, Metrics]:
    """The metrics of named models that a condition is about to look at."""
    states = {step.name: step.state for step in steps}
    named = row.document.get("models") or {}
    wanted = {
        figure.source
        for step in steps
        if step.condition is not None
        and step.state is StepState.waiting
        and all(states[name] is StepState.succeeded for name in step.needs)
        for figure in figures_of(step.condition)
        if figure.source in named
    }
    reach = Reach.of(row.owner_id).with_shared
    references = {name: parse_reference(named[name]) for name in wanted}
    models = {model.id: model for one in references.values() if (model := work.models.find_model(reach, one))}
    for _, model in sorted(models.items()):
        work.models.lock(model)
    found: dict[str, Metrics] = {}
    for name, reference in references.items():
        version = work.models.find(reach, reference)
        found[name] = (
            {**work.evaluations.figures_of(reach, version.id), **(version.manifest.get("metrics") or {})}
            if version is not None
            else None
        )
    return found
