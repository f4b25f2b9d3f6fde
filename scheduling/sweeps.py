"""What a sweep does next. `decide` is a pure function: the same snapshot always gives the same actions.

Trials begin in the order of their numbers, as many at once as the sweep allows. With rungs, a trial that reaches one
goes on when it is among the best of those that came there before it, and stops otherwise (asynchronous successive
halving, arXiv:1810.05934); stopped ones go on before new ones begin, once others' results have put them among the best.
When nothing is left to try, the best of those that came to their end has won, and is confirmed on rows of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from jobspecs.sweeps.lifecycle import CONFIRMATION, SETTLED, SweepState, TrialReason, TrialState

#: So many trials that fail, and none that does not, end the search: more would fail as well.
FAILED_MAX = 5
#: Trials that one decision begins: it is one transaction, and a sampler asks for up to a second for each.
BEGUN_MAX = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial's job has ended; `value`: the figure that decides, of a success."""

    state: TrialState
    reason: TrialReason | None = None
    message: str | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial that was begun. `rungs`: its loss at each rung that it came to; `looks`: (step, loss) while it trains."""

    number: int
    state: TrialState
    reason: TrialReason | None = None
    rungs: tuple[float, ...] = ()
    looks: Sequence[tuple[int, float]] = ()
    value: float | None = None
    #: Once its job has ended.
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision may depend on. `trials` in order, the CONFIRMATION among them; `total`: to be tried."""

    trials: Sequence[Trial]
    total: int
    at_once: int
    goal: Literal["max", "min"] = "max"
    rungs: Sequence[int] = ()
    factor: int = 3
    confirms: bool = True
    cancelling: bool = False
    out_of_time: bool = False
    #: The trial that is being confirmed.
    winner: int | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """Submit a trial's job; of the CONFIRMATION, with the values of `winner`."""

    number: int
    winner: int | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """The trial has come to its next rung with this loss."""

    number: int
    loss: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Let the trial stand still where it is."""

    number: int
    reason: TrialReason


@dataclass(frozen=True, slots=True)
class GoOn:
    """Let a stopped trial go on from where it stands."""

    number: int


@dataclass(frozen=True, slots=True)
class Settle:
    """The trial's job has ended."""

    number: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask the trial's job to end. Asked again it is the same wish."""

    number: int


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more is done."""

    state: SweepState
    winner: int | None = None
    message: str | None = None


Action = Begin | Reach | Stop | GoOn | Settle | Cancel | End


def decide(snapshot: Snapshot) -> list[Action]:
    """What the snapshot allows, in order. The caller takes another snapshot once it has done all of it."""
    return _Decision(snapshot).actions()


@dataclass
class _Decision:
    """One pass: each action is seen by those behind it."""

    snapshot: Snapshot
    _trials: dict[int, Trial] = field(init=False)
    _actions: list[Action] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._trials = {trial.number: trial for trial in self.snapshot.trials}

    def actions(self) -> list[Action]:
        for trial in list(self._trials.values()):
            self._settle(trial)
        if self.snapshot.cancelling:
            self._cancel()
            return self._actions
        for trial in self._searching(TrialState.running):
            self._climb(trial)
        if self.snapshot.out_of_time:
            for trial in self._searching(TrialState.running):
                self._stop(trial, TrialReason.out_of_time)
        else:
            self._fill()
        if not self._searching(TrialState.running):
            self._conclude()
        return self._actions

    def _settle(self, trial: Trial) -> None:
        outcome = trial.outcome
        if trial.state in SETTLED or outcome is None:
            return
        if trial.reason is TrialReason.out_of_time and outcome.state is TrialState.cancelled:
            # As it was asked to.
            return
        self._do(Settle(trial.number, outcome), state=outcome.state, reason=outcome.reason, value=outcome.value)

    def _cancel(self) -> None:
        running = [trial for trial in self._trials.values() if trial.state is TrialState.running]
        self._actions += [Cancel(trial.number) for trial in running]
        if not running:
            self._actions.append(End(SweepState.cancelled))

    def _climb(self, trial: Trial) -> None:
        """Up to the next rung at which others are better."""
        while len(trial.rungs) < len(self.snapshot.rungs):
            loss = _loss_at(trial.looks, self.snapshot.rungs[len(trial.rungs)])
            if loss is None:
                return
            trial = self._do(Reach(trial.number, loss), rungs=(*trial.rungs, loss))
            if not (self._is_ahead(trial) or self._is_last(trial)):
                self._stop(trial, TrialReason.behind)
                return

    def _is_ahead(self, trial: Trial) -> bool:
        """Whether it is among the best that came to its rung."""
        return self._place(trial) < self._came_to(len(trial.rungs)) // self.snapshot.factor

    def _is_last(self, trial: Trial) -> bool:
        """Whether it would go on at once if it stopped: nobody else is left to come to the end before it."""
        rivals = self._searching(TrialState.running, TrialState.succeeded)
        others = [one for one in rivals if one.number != trial.number]
        stopped = self._searching(TrialState.stopped)
        is_best = self._place(trial) == 0 and all(len(one.rungs) <= len(trial.rungs) for one in stopped)
        return is_best and not others and not self._left() and not any(map(self._is_ahead, self._behind()))

    def _stop(self, trial: Trial, reason: TrialReason) -> None:
        self._do(Stop(trial.number, reason), state=TrialState.stopped, reason=reason)

    def _fill(self) -> None:
        """Begins or takes on as many as have room, a few at a time."""
        room = self.snapshot.at_once - len(self._searching(TrialState.running))
        for _ in range(min(room, BEGUN_MAX)):
            promoted = self._promoted()
            if promoted is not None:
                self._do(GoOn(promoted.number), state=TrialState.running, reason=None)
            elif self._left():
                begun = len(self._searching(*TrialState))
                self._trials[begun + 1] = Trial(begun + 1, TrialState.running)
                self._actions.append(Begin(begun + 1))
            else:
                return

    def _promoted(self) -> Trial | None:
        """The stopped trial that should go on first: of the highest rung, the best."""
        behind = self._behind()
        for trial in behind:
            if self._is_ahead(trial):
                return trial
        # Somebody must come to the end: too few may have come to a rung, or others have failed on their way.
        nobody = not self._searching(TrialState.running, TrialState.succeeded)
        return behind[0] if behind and nobody and not self._left() else None

    def _behind(self) -> list[Trial]:
        """Those that stand still at a rung: the highest first, and there the best."""
        behind = [trial for trial in self._searching(TrialState.stopped) if trial.reason is TrialReason.behind]
        return sorted(behind, key=lambda trial: (-len(trial.rungs), trial.rungs[-1], trial.number))

    def _left(self) -> int:
        """Trials that have not begun and may."""
        trials = self._searching(*TrialState)
        failed = sum(trial.state is TrialState.failed for trial in trials)
        hopeless = failed >= FAILED_MAX and failed == len(trials)
        return 0 if hopeless else self.snapshot.total - len(trials)

    def _place(self, trial: Trial) -> int:
        """How many were better at the rung that the trial came to last."""
        last = len(trial.rungs) - 1
        own = (trial.rungs[last], trial.number)
        others = self._searching(*TrialState)
        return sum(len(other.rungs) > last and (other.rungs[last], other.number) < own for other in others)

    def _came_to(self, rungs: int) -> int:
        return sum(len(trial.rungs) >= rungs for trial in self._searching(*TrialState))

    def _conclude(self) -> None:
        """Nothing runs or can begin any more but what confirms the winner."""
        confirmation = self._trials.get(CONFIRMATION)
        best = best_of(self._searching(TrialState.succeeded), self.snapshot.goal)
        if confirmation is not None and self.snapshot.winner is not None:
            # Not one that was given up and came to its end all the same: what was confirmed is another.
            best = self._trials[self.snapshot.winner]
        if best is None:
            self._actions.append(End(SweepState.failed, None, self._why_nobody()))
        elif confirmation is None and self.snapshot.confirms:
            self._actions.append(Begin(CONFIRMATION, best.number))
        elif confirmation is None or confirmation.state is TrialState.succeeded:
            self._actions.append(End(SweepState.succeeded, best.number))
        elif confirmation.state in SETTLED:
            outcome = confirmation.outcome
            told = f" {outcome.message}" if outcome is not None and outcome.message else ""
            message = f"Trial {best.number} was the best, and could not be confirmed ({confirmation.reason}).{told}"
            self._actions.append(End(SweepState.failed, best.number, message))

    def _why_nobody(self) -> str:
        if self.snapshot.out_of_time:
            return "Time ran out before a trial had come to its end."
        failed = [trial for trial in self._searching(TrialState.failed) if trial.outcome is not None]
        told = failed[0].outcome.message if failed and failed[0].outcome is not None else None
        return "No trial succeeded." + (f" Trial {failed[0].number}: {told}" if told else "")

    def _searching(self, *states: TrialState) -> list[Trial]:
        """The trials in one of these states, in order, without the confirmation."""
        return [one for one in self._trials.values() if one.number != CONFIRMATION and one.state in states]

    def _do(self, action: Reach | Stop | GoOn | Settle, **changes: object) -> Trial:
        self._actions.append(action)
        changed: Trial = replace(self._trials[action.number], **changes)  # type: ignore[arg-type]  # its fields
        self._trials[action.number] = changed
        return changed


def best_of(trials: Sequence[Trial], goal: Literal["max", "min"]) -> Trial | None:
    """The trial with the best figure; of equal ones the first."""
    measured = [trial for trial in trials if trial.value is not None]
    sign = -1 if goal == "max" else 1
    return min(measured, key=lambda trial: (sign * float(trial.value or 0), trial.number), default=None)


def _loss_at(looks: Sequence[tuple[int, float]], steps: int) -> float | None:
    """The least loss up to the first look at so many steps or more; None before it."""
    reached = next((step for step, _ in looks if step >= steps), None)
    return None if reached is None else min(loss for step, loss in looks if step <= reached)
