"""What a sweep does next: nothing twice, nothing lost, and the best wins."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobspecs.sweeps.lifecycle import CONFIRMATION, SETTLED, SweepState, TrialReason, TrialState, may_move
from scheduling.sweeps import (
    BEGUN_MAX,
    FAILED_MAX,
    Action,
    Begin,
    Cancel,
    End,
    GoOn,
    Outcome,
    Reach,
    Settle,
    Snapshot,
    Stop,
    Trial,
    decide,
)

S = TrialState
RUNGS = (10, 30, 90)


@dataclass
class World:
    """What a scheduler keeps, without a database. `curves`: trial -> its losses at steps 10, 20, …"""

    snapshot: Snapshot
    curves: dict[int, list[float]] = field(default_factory=dict)
    trials: dict[int, Trial] = field(default_factory=dict)
    begun: list[int] = field(default_factory=list)
    log: list[Action] = field(default_factory=list)
    ended: End | None = None

    def look(self) -> bool:
        """One decision, done. Whether there was anything to do."""
        actions = decide(self.now())
        assert actions == decide(self.now()), "the same snapshot gives the same actions"
        for action in actions:
            self.log.append(action)
            self.do(action)
        return bool(actions)

    def now(self) -> Snapshot:
        return replace(self.snapshot, trials=[self.trials[number] for number in sorted(self.trials)])

    def do(self, action: Action) -> None:
        assert self.ended is None
        if isinstance(action, End):
            self.ended = action
            return
        if isinstance(action, Begin):
            assert action.number not in self.trials
            self.begun.append(action.number)
            self.trials[action.number] = Trial(action.number, S.running)
            self.snapshot = replace(self.snapshot, winner=action.winner)
            return
        trial = self.trials[action.number]
        if isinstance(action, Reach):
            self.trials[action.number] = replace(trial, rungs=(*trial.rungs, action.loss))
        elif isinstance(action, Stop):
            self.moved(trial, S.stopped, reason=action.reason)
        elif isinstance(action, GoOn):
            self.moved(trial, S.running, reason=None)
        elif isinstance(action, Settle):
            outcome = action.outcome
            self.moved(trial, outcome.state, reason=outcome.reason, value=outcome.value)
        elif isinstance(action, Cancel):
            self.trials[action.number] = replace(trial, outcome=Outcome(S.cancelled, TrialReason.job_cancelled))

    def moved(self, trial: Trial, target: TrialState, **changes: Any) -> None:
        assert may_move(trial.state, target)
        self.trials[trial.number] = replace(trial, state=target, **changes)

    def running(self) -> list[int]:
        return [one.number for one in self.trials.values() if one.state is S.running and one.outcome is None]

    def train(self, number: int) -> None:
        """Ten steps more; where they were the last, its job succeeds and its value is what its loss says."""
        trial = self.trials[number]
        curve = self.curves.get(number, [])
        taken = len(trial.looks) + 1
        looks = tuple((10 * (place + 1), loss) for place, loss in enumerate(curve[:taken]))
        outcome = Outcome(S.succeeded, value=-min(curve, default=0.0)) if taken >= len(curve) else None
        self.trials[number] = replace(trial, looks=looks, outcome=outcome)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    total=st.integers(1, 12),
    at_once=st.integers(1, 5),
    factor=st.integers(2, 4),
    halves=st.booleans(),
    confirms=st.booleans(),
)
def test_every_trial_begins_once_and_the_best_that_came_to_its_end_wins(
    data: st.DataObject, total: int, at_once: int, factor: int, halves: bool, confirms: bool
) -> None:
    rungs = RUNGS if halves else ()
    curves = {
        number: data.draw(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.5]), min_size=1, max_size=12))
        for number in range(1, total + 1)
    }
    world = World(Snapshot([], total, at_once, rungs=rungs, factor=factor, confirms=confirms), curves)
    for _ in range(600):
        while world.ended is None and world.look():
            pass
        if world.ended is not None:
            break
        assert sum(number != CONFIRMATION for number in world.running()) <= at_once
        something_happens(world, data)
    assert world.ended is not None
    assert len(world.begun) == len(set(world.begun))
    tried = {number: trial for number, trial in world.trials.items() if number != CONFIRMATION}
    assert all(trial.state in SETTLED or trial.state is S.stopped for trial in tried.values())
    if world.snapshot.cancelling:
        assert world.ended.state is SweepState.cancelled
    else:
        check_end(world, tried, total, confirms=confirms)


def something_happens(world: World, data: st.DataObject) -> None:
    running = world.running()
    assert running, "it waits for something"
    number = data.draw(st.sampled_from(running))
    fate = data.draw(st.integers(0, 19))
    if fate == 0:
        lost = Outcome(S.failed, TrialReason.job_failed, "it crashed")
        world.trials[number] = replace(world.trials[number], outcome=lost)
    elif fate == 1 and not world.snapshot.out_of_time:
        world.snapshot = replace(world.snapshot, out_of_time=data.draw(st.integers(0, 9)) == 0)
    elif fate == 2 and not world.snapshot.cancelling:
        world.snapshot = replace(world.snapshot, cancelling=data.draw(st.integers(0, 9)) == 0)
    else:
        world.train(number)


def check_end(world: World, tried: dict[int, Trial], total: int, *, confirms: bool) -> None:
    assert world.ended is not None
    if not world.snapshot.out_of_time and sum(trial.state is S.failed for trial in tried.values()) < FAILED_MAX:
        assert len(tried) == total
    best = max((trial.value for trial in tried.values() if trial.value is not None), default=None)
    if best is None:
        assert world.ended.state is SweepState.failed
        return
    assert world.ended.winner is not None and tried[world.ended.winner].value == best
    if confirms:
        confirmed = world.trials[CONFIRMATION].state is S.succeeded
        assert world.ended.state is (SweepState.succeeded if confirmed else SweepState.failed)
        assert world.begun[-1] == CONFIRMATION
    else:
        assert world.ended.state is SweepState.succeeded and CONFIRMATION not in world.trials


def test_the_worse_ones_stop_at_a_rung_and_go_on_when_others_turn_out_to_be_worse_still() -> None:
    first = Trial(1, S.running, looks=((10, 0.5),))
    second = Trial(2, S.running, looks=((5, 0.1), (12, 0.6), (13, 0.2)))
    base = Snapshot([first, second], total=2, at_once=2, rungs=RUNGS, factor=2)
    # The first can't be told to be good; the second is the better one of two.
    assert decide(base) == [Reach(1, 0.5), Stop(1, TrialReason.behind), Reach(2, 0.1)]
    worse = replace(base, trials=[first, replace(second, looks=((12, 0.6),))])
    stops = [Reach(1, 0.5), Stop(1, TrialReason.behind), Reach(2, 0.6), Stop(2, TrialReason.behind)]
    assert decide(worse) == [*stops, GoOn(1)]
    stopped = Trial(1, S.stopped, TrialReason.behind, rungs=(0.5,))
    others = [
        Trial(number, S.failed, TrialReason.job_failed, rungs=(loss,)) for number, loss in enumerate((0.4, 0.6), 2)
    ]
    more = [*others, *(replace(others[0], number=number, rungs=(0.7 + number,)) for number in (4, 5, 6))]
    # Of six that came to the rung two may go on; it is the second.
    assert decide(Snapshot([stopped, *more], total=6, at_once=1, rungs=RUNGS, factor=3)) == [GoOn(1)]
    assert decide(Snapshot([stopped, *more[:2]], total=9, at_once=1, rungs=RUNGS, factor=3)) == [Begin(4)]


def test_somebody_comes_to_the_end_when_all_before_have_failed() -> None:
    trials = [Trial(1, S.failed, rungs=(0.1,)), Trial(2, S.stopped, TrialReason.behind, rungs=(0.3,))]
    trials.append(Trial(3, S.stopped, TrialReason.behind, rungs=(0.2,)))
    assert decide(Snapshot(trials, total=3, at_once=2, rungs=RUNGS, factor=5)) == [GoOn(3)]
    # It need not stand still at the next rungs, where nobody else will come.
    alone = replace(trials[2], state=S.running, reason=None, looks=((10, 0.2), (30, 0.1), (100, 0.1)))
    climbed = decide(Snapshot([*trials[:2], alone], total=3, at_once=2, rungs=RUNGS, factor=5))
    assert climbed == [Reach(3, 0.1), Reach(3, 0.1)]


def test_a_search_of_which_every_trial_fails_is_given_up() -> None:
    trials = [
        Trial(number, S.failed, outcome=Outcome(S.failed, TrialReason.job_failed, "nan_loss: at step 3"))
        for number in range(1, FAILED_MAX + 1)
    ]
    (ended,) = decide(Snapshot(trials, total=100, at_once=2))
    assert isinstance(ended, End) and ended.state is SweepState.failed
    assert ended.message == "No trial succeeded. Trial 1: nan_loss: at step 3"
    assert decide(Snapshot(trials[1:], total=100, at_once=1)) == [Begin(FAILED_MAX)]


@pytest.mark.parametrize(("goal", "winner"), [("max", 2), ("min", 1)])
def test_the_goal_decides_who_wins_and_a_lost_confirmation_is_no_success(goal: Any, winner: int) -> None:
    trials = [Trial(number, S.succeeded, value=value) for number, value in ((1, 0.1), (2, 0.9), (3, 0.9), (4, 0.1))]
    base = Snapshot(trials, total=4, at_once=2, goal=goal)
    assert decide(base) == [Begin(CONFIRMATION, winner)]
    lost = Trial(CONFIRMATION, S.running, outcome=Outcome(S.failed, TrialReason.job_failed, "crashed"))
    settled, ended = decide(replace(base, trials=[lost, *trials]))
    assert isinstance(settled, Settle) and isinstance(ended, End)
    assert (ended.state, ended.winner) == (SweepState.failed, winner)
    assert ended.message == f"Trial {winner} was the best, and could not be confirmed (job_failed). crashed"


def test_when_time_runs_out_trials_stop_and_the_best_so_far_is_confirmed() -> None:
    trials = [Trial(1, S.succeeded, value=0.5), Trial(2, S.running), Trial(3, S.stopped, TrialReason.behind, (0.1,))]
    late = Snapshot(trials, total=9, at_once=2, out_of_time=True)
    assert decide(late) == [Stop(2, TrialReason.out_of_time), Begin(CONFIRMATION, 1)]
    (_, ended) = decide(replace(late, trials=trials[1:]))
    assert ended == End(SweepState.failed, None, "Time ran out before a trial had come to its end.")


def test_a_trial_that_ends_after_it_was_given_up_takes_nothing_from_the_winner_that_is_confirmed() -> None:
    confirmed = Trial(CONFIRMATION, S.succeeded, value=0.4)
    late = Trial(2, S.stopped, TrialReason.out_of_time, outcome=Outcome(S.succeeded, value=0.9))
    trials = [confirmed, Trial(1, S.succeeded, value=0.5), late]
    settled, ended = decide(Snapshot(trials, total=9, at_once=2, out_of_time=True, winner=1))
    assert settled == Settle(2, late.outcome or Outcome(S.failed)) and ended == End(SweepState.succeeded, 1)


def test_many_trials_begin_a_few_at_a_time() -> None:
    assert decide(Snapshot([], total=100, at_once=100)) == [Begin(number) for number in range(1, BEGUN_MAX + 1)]
