"""What a pipeline does next. `decide` is a pure function: the same snapshot always gives the same actions.

A step begins when all that it needs has succeeded and its condition, if it has one, is true of the figures that were
measured. It is skipped when something that it needs has ended otherwise, or when its condition is false or unknown.
What does not depend on a failure goes on. A pipeline ends when every step has settled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from jobspecs.pipelines.conditions import Condition, Metrics, seen
from jobspecs.pipelines.lifecycle import SETTLED, PipelineState, StepReason, StepState
from jobspecs.pipelines.order import in_order

#: Steps that a message names.
_NAMED_MAX = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """How what a step runs has ended."""

    state: StepState
    reason: StepReason | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """`needs`: steps that have to succeed before. `metrics`: what it measured, once it has succeeded."""

    name: str
    state: StepState
    needs: tuple[str, ...] = ()
    condition: Condition | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    #: Of a running step, once what it runs has ended.
    outcome: Outcome | None = None
    #: The job of an earlier success that may be taken in its place.
    earlier: UUID | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision may depend on. `models`: name -> metrics of what conditions compare with."""

    steps: Sequence[Step]
    models: Mapping[str, Metrics] = field(default_factory=dict)
    cancelling: bool = False


#: Each figure of a condition with the value that it saw.
Seen = Mapping[str, float | bool | None]


@dataclass(frozen=True, slots=True)
class Start:
    """Begin the step: it has not been begun before."""

    step: str
    figures: Seen


@dataclass(frozen=True, slots=True)
class Reuse:
    """Take the result of an earlier job instead of doing the step."""

    step: str
    job_id: UUID
    figures: Seen


@dataclass(frozen=True, slots=True)
class Settle:
    """The step has ended, or will never begin."""

    step: str
    state: StepState
    reason: StepReason | None = None
    message: str | None = None
    figures: Seen = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask what the step runs to end. Asked again it is the same wish."""

    step: str


@dataclass(frozen=True, slots=True)
class End:
    """Every step has settled."""

    state: PipelineState
    message: str | None = None


Action = Start | Reuse | Settle | Stop | End


def decide(snapshot: Snapshot) -> list[Action]:
    """What the snapshot allows, in order. The caller takes another snapshot once it has done all of it."""
    steps = {step.name: step for step in snapshot.steps}
    states = {step.name: step.state for step in snapshot.steps}
    actions: list[Action] = []
    for name in in_order({step.name: step.needs for step in snapshot.steps}):
        action = _action(steps[name], states, steps, snapshot)
        if action is None:
            continue
        actions.append(action)
        if isinstance(action, Settle):
            states[name] = action.state
        elif isinstance(action, Start | Reuse):
            # What it makes is known to the next snapshot.
            states[name] = StepState.running
    if all(state in SETTLED for state in states.values()):
        actions.append(_end(states, cancelling=snapshot.cancelling))
    return actions


def _action(
    step: Step, states: Mapping[str, StepState], steps: Mapping[str, Step], snapshot: Snapshot
) -> Action | None:
    if step.state is StepState.running:
        if step.outcome is not None:
            return Settle(step.name, step.outcome.state, step.outcome.reason, step.outcome.message)
        return Stop(step.name) if snapshot.cancelling else None
    if step.state is not StepState.waiting:
        return None
    if snapshot.cancelling:
        return Settle(step.name, StepState.cancelled, StepReason.cancelled_by_user)
    lost = [name for name in step.needs if states[name] in SETTLED and states[name] is not StepState.succeeded]
    if lost:
        return _skipped(step, lost, states)
    # Metrics come with the snapshot: of a step that ended in this one, the next has them.
    if any(steps[name].state is not StepState.succeeded for name in step.needs):
        return None
    return _begin(step, steps, snapshot.models)


def _begin(step: Step, steps: Mapping[str, Step], models: Mapping[str, Metrics]) -> Action:
    def look(source: str) -> Metrics:
        return steps[source].metrics if source in steps else models.get(source)

    figures: Seen = {}
    if step.condition is not None:
        figures = seen(step.condition, look)
        truth = step.condition.truth(look)
        if truth is not True:
            reason = StepReason.condition_unknown if truth is None else StepReason.condition_false
            return Settle(step.name, StepState.skipped, reason, told_figures(figures), figures)
    if step.earlier is not None:
        return Reuse(step.name, step.earlier, figures)
    return Start(step.name, figures)


def _skipped(step: Step, lost: Sequence[str], states: Mapping[str, StepState]) -> Settle:
    failed = [name for name in lost if states[name] is not StepState.skipped]
    reason = StepReason.needs_failed if failed else StepReason.needs_skipped
    told = ", ".join(f"{name} ({states[name]})" for name in (failed or lost)[:_NAMED_MAX])
    return Settle(step.name, StepState.skipped, reason, f"It needs {told}.")


def _end(states: Mapping[str, StepState], *, cancelling: bool) -> End:
    if cancelling and StepState.cancelled in states.values():
        return End(PipelineState.cancelled)
    failed = [name for name, state in states.items() if state in (StepState.failed, StepState.cancelled)]
    if not failed:
        return End(PipelineState.succeeded)
    more = f" and {len(failed) - _NAMED_MAX} more" if len(failed) > _NAMED_MAX else ""
    return End(PipelineState.failed, f"Did not succeed: {', '.join(failed[:_NAMED_MAX])}{more}.")


def told_figures(figures: Seen) -> str:
    """What a condition saw, in a sentence."""
    return ", ".join(f"{name} is {_value(value)}" for name, value in figures.items()) + "."


def _value(value: float | bool | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:.6g}" if isinstance(value, float) else ("true" if value else "false")
