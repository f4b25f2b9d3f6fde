"""Any graph of steps, any outcomes, at any time: what a pipeline does next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from jobspecs.pipelines.conditions import parse_condition
from jobspecs.pipelines.lifecycle import SETTLED, PipelineState, StepReason, StepState, may_move
from scheduling.pipelines import End, Outcome, Reuse, Settle, Snapshot, Start, Step, Stop, decide

S = StepState
ENDS = st.sampled_from([Outcome(S.succeeded), Outcome(S.failed, StepReason.job_failed)])


@dataclass
class World:
    """Does what is decided, as a scheduler and its workers do."""

    steps: dict[str, Step]
    outcomes: Mapping[str, Outcome]
    cancelling: bool = False
    begun: list[str] = field(default_factory=list)
    ended: End | None = None

    def look(self) -> bool:
        """One decision. Whether anything was decided."""
        actions = decide(Snapshot([*self.steps.values()], cancelling=self.cancelling))
        assert self.ended is None
        for action in actions:
            if isinstance(action, End):
                assert action is actions[-1]
                self.ended = action
                continue
            step = self.steps[action.step]
            if isinstance(action, Stop):
                self.steps[step.name] = replace(step, outcome=Outcome(S.cancelled, StepReason.cancelled_by_user))
                continue
            if isinstance(action, Settle):
                assert step.state is S.running or action.state in (S.skipped, S.cancelled)
                target = action.state
            else:
                self.begun.append(step.name)
                assert all(self.steps[name].state is S.succeeded for name in step.needs)
                target = S.succeeded if isinstance(action, Reuse) else S.running
            assert may_move(step.state, target)
            self.steps[step.name] = replace(step, state=target, outcome=None)
        return bool(actions)

    def finish(self, name: str) -> None:
        """What the step runs ends."""
        self.steps[name] = replace(self.steps[name], outcome=self.outcomes[name])

    def running(self) -> list[str]:
        return [step.name for step in self.steps.values() if step.state is S.running and step.outcome is None]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Up to nine steps, in any order in the document; each may need any that were made before it."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 9)))]
    steps = {
        name: Step(
            name,
            S.waiting,
            tuple(draw(st.lists(st.sampled_from(names[:number]), unique=True, max_size=3)) if number else ()),
            earlier=draw(st.sampled_from([None, None, uuid4()])),
        )
        for number, name in enumerate(names)
    }
    shuffled = draw(st.permutations(names))
    return World({name: steps[name] for name in shuffled}, {name: draw(ENDS) for name in names})


@settings(max_examples=200, deadline=None)
@given(worlds(), st.data())
def test_every_step_is_begun_once_at_most_and_every_pipeline_ends(world: World, data: st.DataObject) -> None:
    for _ in range(100):
        while world.ended is None and world.look():
            pass
        if world.ended is not None:
            break
        running = world.running()
        if not world.cancelling and data.draw(st.integers(0, 9)) == 0:
            world.cancelling = True
        elif running:
            world.finish(data.draw(st.sampled_from(running)))
    assert world.ended is not None
    assert len(world.begun) == len(set(world.begun))
    assert all(step.state in SETTLED for step in world.steps.values())
    states = {name: step.state for name, step in world.steps.items()}
    if world.cancelling:
        return
    # What needs nothing that ended badly has been done: other branches go on.
    for name, step in world.steps.items():
        if all(states[need] is S.succeeded for need in step.needs):
            assert states[name] is not S.skipped
        else:
            assert states[name] is S.skipped
    failed = S.failed in states.values()
    assert world.ended.state is (PipelineState.failed if failed else PipelineState.succeeded)


def compared(condition: str, **metrics: float) -> list[object]:
    one = Step("one", S.succeeded, metrics=metrics)
    two = Step("two", S.waiting, ("one",), parse_condition(condition))
    return list(decide(Snapshot([one, two], models={"prod": None, "old": {"test/f1_high": 0.5}})))


def test_only_what_is_true_begins() -> None:
    assert compared("$one.f1.low > $old.f1.high", **{"validation/f1_low": 0.6}) == [
        Start("two", {"$one.f1.low": 0.6, "$old.f1.high": 0.5})
    ]
    skipped, ended = compared("$one.f1.low > $old.f1.high", **{"validation/f1_low": 0.5})
    assert isinstance(skipped, Settle)
    assert (skipped.state, skipped.reason) == (S.skipped, StepReason.condition_false)
    assert skipped.message == "$one.f1.low is 0.5, $old.f1.high is 0.5."
    assert ended == End(PipelineState.succeeded)


def test_what_was_not_measured_is_neither_better_nor_worse() -> None:
    for condition in ("$one.f1 > $prod.f1", "not $one.f1 > $prod.f1", "$one.f1 > 0 and $prod.f1 > 0"):
        skipped, _ = compared(condition, f1=1.0)
        assert isinstance(skipped, Settle) and skipped.reason is StepReason.condition_unknown
    for condition in ("not $prod.exists or $one.f1 > $prod.f1", "$prod.f1 > 1 or $one.f1 == 1"):
        (started,) = compared(condition, f1=1.0)
        assert isinstance(started, Start)
