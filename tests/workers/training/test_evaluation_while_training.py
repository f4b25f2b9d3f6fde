"""Early stopping and the best weights, without and with an interruption in between."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from jobspecs.events import ChildEvent, MetricEvent
from jobspecs.kinds.training import Optimization
from tests.workers.training.attempts import Killed
from workers.local_models.tokens import Int64s
from workers.run.context import RunContext
from workers.training.batches import BatchPlan
from workers.training.loop import Evaluation, TrainingResult, train
from workers.training.optimization import build_optimizer

#: What successive evaluations measure: the fourth is the best, three worse ones follow.
CURVE = (5.0, 4.0, 4.5, 3.0, 3.5, 3.25, 3.75, *([2.0] * 9))


class Line:
    """Fits a line; every evaluation reads the next figure of CURVE, by the number of steps done."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Dropout(0.2), nn.Linear(3, 1))
        self.inputs = torch.randn(32, 3)

    def backward(self, rows: Int64s) -> torch.Tensor:
        loss = (self.model(self.inputs[rows]) - self.inputs[rows].sum(1, keepdim=True)).square().mean()
        torch.autograd.backward(loss)
        return loss.detach()

    def terms(self, rows: Int64s) -> float:
        return 1

    def fingerprint(self) -> bytes:
        return bytes(self.inputs.numpy().tobytes())


class Attempt:
    def __init__(self, root: Path, patience: int | None = 3, keep_best: bool = True, watched: bool = True) -> None:
        self.root, self.task, self.events = root, Line(), list[ChildEvent]()
        self.patience, self.keep_best, self.watched = patience, keep_best, watched

    def run(self, resume_from: Path | None = None, kill_after: int | None = None) -> TrainingResult:
        settings = Optimization(batch_size=4, learning_rate=0.05, checkpoint_every_steps=1)
        plan = BatchPlan(np.ones(32, dtype=np.int64), 4, 4, seed=1, grouped=False)
        asked = 0

        def stop_requested() -> bool:
            nonlocal asked
            asked += 1
            if kill_after is not None and asked > kill_after:
                raise Killed
            return False

        def measure() -> float:
            evaluations = [event for event in self.events if isinstance(event, MetricEvent)]
            before = int(resume_from.name.removeprefix("step-")) // 2 if resume_from else 0
            torch.randn(7)  # measuring may draw; the training must not notice
            return CURVE[before + len(evaluations)]

        context = RunContext(
            spec=None,  # type: ignore[arg-type]
            dataset_path=None,
            model_dir=None,
            output_dir=self.root,
            checkpoints_dir=self.root / "checkpoints",
            resume_from=resume_from,
            emit=self.events.append,
            stop_requested=stop_requested,
        )
        evaluation = Evaluation(2, measure, self.patience, self.keep_best) if self.watched else None
        self.optimizer = build_optimizer(self.task.model, settings)
        return train(
            context,
            self.task,
            plan,
            settings,
            torch.device("cpu"),
            evaluation=evaluation,
            optimizer=self.optimizer,
        )

    @property
    def weights(self) -> bytes:
        return b"".join(tensor.numpy().tobytes() for tensor in self.task.model.state_dict().values())

    @property
    def newest_checkpoint(self) -> Path:
        return max((self.root / "checkpoints").glob("step-*"))


@pytest.fixture
def attempt(tmp_path: Path) -> Callable[..., Attempt]:
    return lambda name, **settings: Attempt(tmp_path / name, **settings)


def test_training_stops_after_so_many_worse_evaluations(attempt: Callable[..., Attempt]) -> None:
    result = attempt("early").run()
    assert (result.steps, result.best_step) == (14, 8)


def test_the_weights_of_the_best_evaluation_are_the_result(attempt: Callable[..., Attempt]) -> None:
    best, unbroken = attempt("best"), attempt("plain", patience=None, keep_best=False)
    best.run()
    with pytest.raises(Killed):
        unbroken.run(kill_after=8)
    assert best.weights == unbroken.weights


def test_the_loss_that_is_told_is_that_of_the_kept_weights(attempt: Callable[..., Attempt]) -> None:
    kept, last = attempt("kept").run(), attempt("last", keep_best=False).run()
    state = json.loads((attempt("kept").newest_checkpoint / "state.json").read_bytes())
    assert kept.best_step == 8 and kept.loss == state["loss_at_best"] != last.loss == state["loss"]


def test_evaluating_does_not_change_what_is_trained(attempt: Callable[..., Attempt]) -> None:
    watched = attempt("watched", patience=None, keep_best=False)
    assert watched.run().best_step is None
    quiet = attempt("quiet", watched=False)
    quiet.run()
    assert watched.weights == quiet.weights


@pytest.mark.parametrize("step", [3, 8, 9, 12, 13])
def test_a_run_killed_between_evaluations_ends_with_the_same_best_weights(
    step: int, attempt: Callable[..., Attempt]
) -> None:
    unbroken, broken, resumed = attempt("unbroken"), attempt("broken"), attempt("resumed")
    whole = unbroken.run()
    with pytest.raises(Killed):
        broken.run(kill_after=step)
    result = resumed.run(resume_from=broken.newest_checkpoint)
    assert resumed.weights == unbroken.weights
    assert (result.steps, result.best_step, result.resumed_at) == (whole.steps, whole.best_step, step)


def test_a_run_that_was_still_getting_better_at_its_end_says_so(attempt: Callable[..., Attempt]) -> None:
    unwatched = attempt("unwatched", watched=False).run()
    assert unwatched.still_improving and "more epochs may help" in unwatched.sentence
    best_last = attempt("best last", patience=None).run()
    assert best_last.best_step is not None and not best_last.still_improving
    assert not attempt("early").run().still_improving


def test_what_only_training_needs_is_given_back_before_anything_is_judged(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path)
    assert attempt.run().best_step == 8
    assert not attempt.optimizer.state
    assert all(parameter.grad is None for parameter in attempt.task.model.parameters())
