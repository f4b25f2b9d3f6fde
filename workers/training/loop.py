"""The training loop: steps, progress, checkpoints, and an exact continuation of an interrupted run.

What is trained is a `Task`; which rows make up a step is a `Plan`. The loop knows neither texts nor losses.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from jobspecs.events import CheckpointEvent, MetricEvent
from jobspecs.kinds.training import Optimization
from workers.local_models.devices import give_memory_back, move_to
from workers.local_models.linear import prefers_onednn
from workers.local_models.tokens import Int64s
from workers.run.context import RunContext, RunStopped
from workers.training.checkpoints import (
    TrainingState,
    UnusableCheckpoint,
    read_state,
    restore,
    restore_best,
    save_checkpoint,
    trained_tensors,
)
from workers.training.optimization import (
    apply_gradients,
    build_optimizer,
    check_weights,
    learning_rate,
    learning_rates,
    set_learning_rate,
)
from workers.training.progress import Plan, Progress
from workers.training.world import ALONE, World, on_cpu

_log = logging.getLogger(__name__)

#: Seconds between checkpoints unless the spec counts steps.
_CHECKPOINT_EVERY_S = 60.0
#: Weight of the newest loss in the moving average.
_LOSS_WEIGHT = 0.05
#: A moving average below this share of an earlier one has clearly fallen, though the learning rate goes to 0.
_CLEARLY_BETTER = 0.97


class Task(Protocol):
    """What is trained: a model, and what a step's rows add to its gradients."""

    @property
    def model(self) -> nn.Module:
        """Its trainable parameters are trained and checkpointed."""

    def backward(self, rows: Int64s) -> torch.Tensor:
        """Adds the gradients of these rows, in any number of micro-batches. Returns their loss, a detached scalar."""

    def terms(self, rows: Int64s) -> float:
        """How many terms, of the size of a cross-entropy each, the loss of these rows is the sum of; 1 for a mean."""

    def fingerprint(self) -> bytes:
        """Everything beside the settings that decides the result: data, frozen choices."""


@dataclass(frozen=True)
class Looked:
    """How many rows decide when to end, and whether they are of `validation` or set aside from those that train."""

    rows: int = 0
    given: bool = False
    #: Otherwise they decide only whose weights are kept.
    ends: bool = True

    @property
    def sentence(self) -> str:
        """For people; empty where there are none."""
        if not self.rows:
            return ""
        if self.given:
            decided = "when to end" if self.ends else "which weights are kept"
            return f" {self.rows} validation rows decided {decided}."
        return f" {self.rows} of the training rows were set aside to decide when to end."


@dataclass(frozen=True)
class Evaluation:
    """A look at held-out data while training goes on. `measure` gives a figure that is better when lower."""

    every_steps: int
    measure: Callable[[], float]
    #: Stop after so many evaluations in a row without a better figure; None: never.
    patience: int | None = None
    #: End with the weights of the best evaluation, not the last step.
    keep_best: bool = False
    metric: str = "validation/loss"
    #: What is looked at, where it isn't the rows that judge.
    looked: Looked = Looked()


@dataclass(frozen=True)
class TrainingResult:
    """`loss`: moving average in nats when the model had the weights that it has now.

    `seconds` and `sequences_per_s` cover this attempt only.
    """

    steps: int
    loss: float
    seconds: float
    sequences_per_s: float
    resumed_at: int
    #: Steps that the run would have taken without an early end.
    steps_planned: int = 0
    #: Whose weights the model has now, where an evaluation kept the best; else the last.
    best_step: int | None = None
    stopped_early: bool = False
    #: Rows that decided when to end, where they weren't those that judge.
    looked: Looked = Looked()
    #: All steps were taken and it was still getting better: the last evaluation was the best, or without any, the loss
    #: fell clearly over the last quarter.
    still_improving: bool = False

    def as_json(self) -> dict[str, object]:
        """For the report of a job."""
        return {
            "steps": self.steps,
            "resumed_at_step": self.resumed_at,
            "sequences_per_s": self.sequences_per_s,
            "best_step": self.best_step,
            "stopped_early": self.stopped_early,
            "rows_aside": 0 if self.looked.given else self.looked.rows,
            "rows_choosing": self.looked.rows if self.looked.given else 0,
            "still_improving": self.still_improving,
            "sentence": self.sentence,
        }

    @property
    def sentence(self) -> str:
        """How training ended, in plain words; the same for equal runs."""
        most = f" of at most {self.steps_planned}" if self.stopped_early else ""
        text = f"Trained for {self.steps}{most} steps.{self.looked.sentence}"
        if self.best_step is not None:
            text += f" The weights are those after step {self.best_step}, where the loss was lowest."
        if self.still_improving:
            text += " It was still getting better at the end: more epochs may help."
        return text

    @property
    def weights_of_step(self) -> int:
        """The step after which the model had the weights that it has now."""
        return self.steps if self.best_step is None else self.best_step


def rates_of(result: TrainingResult, settings: Optimization) -> list[float]:
    """The learning rates of the steps that made the weights that the model has now."""
    return learning_rates(result.steps_planned, settings)[: result.weights_of_step]


def train(
    context: RunContext,
    task: Task,
    plan: Plan,
    settings: Optimization,
    device: torch.device,
    *,
    judged_later: int = 0,
    evaluation: Evaluation | None = None,
    optimizer: Optimizer | None = None,
    world: World = ALONE,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingResult:
    """Trains `task.model` in place; continues from `context.resume_from` when that is a checkpoint of this run.

    Killed at any step and continued, it gives the same weights, bit for bit, on the same kind of machine.
    `judged_later` is the number of held-out sequences, for the ETA. `optimizer`: AdamW over what is trainable when
    None. In a `world` of several processes, each calls this with a task that returns the loss of all and adds its
    share of the gradients. Raises RunFailed(nan_loss), and RunStopped after a last checkpoint when asked to stop.
    """
    move_to(task.model, device).train()
    run = _Run(context, task, plan, settings, device, judged_later, evaluation, optimizer, world, clock)
    result = run.to_the_end()
    check_weights(task.model)
    task.model.train(False)
    run.release()
    return result


class _Run:
    """One attempt. `position.step` counts optimizer steps done, over all attempts."""

    def __init__(
        self,
        context: RunContext,
        task: Task,
        plan: Plan,
        settings: Optimization,
        device: torch.device,
        judged_later: int,
        evaluation: Evaluation | None,
        optimizer: Optimizer | None,
        world: World,
        clock: Callable[[], float],
    ) -> None:
        self.context, self.task, self.plan, self.settings = context, task, plan, settings
        self.device, self.judged_later, self.evaluation, self.clock = device, judged_later, evaluation, clock
        self.world = world
        self.optimizer = optimizer or build_optimizer(task.model, settings)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.position = TrainingState(0, 0.0, _fingerprint(settings, task), _environment(device))
        #: Weights of the best evaluation so far, on the CPU.
        self.best: dict[str, torch.Tensor] | None = None
        # Each process draws its own dropout masks.
        torch.manual_seed(settings.seed + world.rank)
        self._resume()
        self.saved_step, self.saved_at = self.position.step, clock()

    def to_the_end(self) -> TrainingResult:
        first_step, begun = self.position.step, self.clock()
        progress = Progress(self.context.emit, self.plan, self.judged_later, self.clock)
        while self.position.step < self.plan.steps_total and not self.position.stopped_early:
            if self.world.agree(self.context.stop_requested()):
                self._checkpoint()
                raise RunStopped
            rate = learning_rate(self.position.step, self.plan.steps_total, self.settings)
            loss = self._take_step(rate)
            before = self.position
            mean = loss if before.step == 0 else before.loss + _LOSS_WEIGHT * (loss - before.loss)
            self.position = before.with_(step=before.step + 1, loss=mean)
            if self.position.step == self.plan.steps_total * 3 // 4:
                self.position = self.position.with_(loss_at_three_quarters=mean)
            progress.report(self.position.step, mean, rate)
            self._evaluate()
            if self._checkpoint_due():
                self._checkpoint()
        seconds = self.clock() - begun
        loss = self.position.loss
        if self.best is not None:
            restore_best(self.task.model, self.best)
            # A checkpoint of an older version does not know it.
            loss = loss if self.position.loss_at_best is None else self.position.loss_at_best
        return TrainingResult(
            self.position.step,
            loss,
            seconds,
            progress.sequences / max(seconds, 1e-9),
            first_step,
            self.plan.steps_total,
            self.position.best_step if self.best is not None else None,
            self.position.stopped_early,
            self.evaluation.looked if self.evaluation else Looked(),
            self._still_improving(),
        )

    def release(self) -> None:
        """Gives back what only training needs, whoever still holds the optimizer: judging loads models of its own.

        12 bytes per trained parameter, or 16 where the best weights were kept, and what a step had as activations.
        """
        self.best = None
        if self.world.size == 1:
            # What other processes share is its owner's.
            self.task.model.zero_grad(set_to_none=True)
            self.optimizer.state.clear()
        give_memory_back()

    def _still_improving(self) -> bool:
        position = self.position
        if position.stopped_early:
            return False
        if self.evaluation is not None:
            return position.best_step == position.step
        earlier = position.loss_at_three_quarters
        return earlier is not None and position.loss < _CLEARLY_BETTER * earlier

    def _take_step(self, rate: float) -> float:
        self.optimizer.zero_grad()
        set_learning_rate(self.optimizer, rate)
        step = self.position.step
        rows = self.plan.rows(step)
        loss = self.task.backward(rows)
        limit = self.settings.max_grad_norm
        return apply_gradients(self.optimizer, self.parameters, loss, limit, step, self.task.terms(rows))

    def _evaluate(self) -> None:
        evaluation, step = self.evaluation, self.position.step
        if evaluation is None or (step % evaluation.every_steps and step < self.plan.steps_total):
            return
        # Whatever measuring draws at random must not reach the training: a run without it would differ.
        generators = torch.random.get_rng_state()
        self.task.model.train(False)
        value = evaluation.measure()
        self.task.model.train()
        torch.random.set_rng_state(generators)
        self.context.emit(MetricEvent(name=evaluation.metric, value=value, step=step))
        if self.position.best_value is None or value < self.position.best_value:
            loss = self.position.loss
            self.position = self.position.with_(
                best_value=value, best_step=step, loss_at_best=loss, worse_evaluations=0
            )
            if evaluation.keep_best:
                # Those kept before go first, so that no two sets stand beside the weights.
                self.best = None
                self.best = {name: tensor.clone() for name, tensor in on_cpu(self._trained()).items()}
            return
        worse = self.position.worse_evaluations + 1
        early = evaluation.patience is not None and worse >= evaluation.patience
        self.position = self.position.with_(worse_evaluations=worse, stopped_early=early)

    def _trained(self) -> dict[str, torch.Tensor]:
        return trained_tensors(self.task.model)

    def _checkpoint_due(self) -> bool:
        every = self.settings.checkpoint_every_steps
        if every is not None:
            return self.position.step % every == 0
        # The end of training deserves one too, unless little would be lost: judging may still be interrupted.
        patience_s = _CHECKPOINT_EVERY_S if self.position.step < self.plan.steps_total else _CHECKPOINT_EVERY_S / 2
        return self.world.agree(self.clock() - self.saved_at >= patience_s)

    def _checkpoint(self) -> None:
        if self.position.step == self.saved_step or not self.world.resumable:
            return
        root = self.context.checkpoints_dir
        directory = save_checkpoint(root, self.task.model, self.optimizer, self.position, self.best, self.world)
        self.saved_step, self.saved_at = self.position.step, self.clock()
        self.context.emit(CheckpointEvent(step=self.position.step, directory=_relative(directory)))

    def _resume(self) -> None:
        if self.context.resume_from is None or not self.world.resumable:
            return
        try:
            state = read_state(self.context.resume_from, self.position.fingerprint)
            best = restore(self.context.resume_from, self.task.model, self.optimizer, self.world)
        except UnusableCheckpoint as error:
            # Nothing was loaded yet, so starting anew costs time but gives the same weights.
            _log.warning("checkpoint refused, training starts anew: %s", error)
            return
        here = self.position.environment
        changed = [name for name, value in here.items() if state.environment.get(name) != value]
        if changed:
            _log.warning("the checkpoint was written with other %s: last digits may differ", ", ".join(changed))
        self.position, self.best = state.with_(environment=here), best
        _log.info("continuing after step %d", self.position.step)


def _fingerprint(settings: Optimization, task: Task) -> str:
    shapes = [(name, tuple(tensor.shape)) for name, tensor in task.model.named_parameters()]
    text = f"{settings.model_dump_json(exclude={'checkpoint_every_steps'})} {shapes}"
    return hashlib.sha256(text.encode() + task.fingerprint()).hexdigest()


def _environment(device: torch.device) -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": str(torch.get_num_threads()),
        "linear": "onednn" if prefers_onednn() else "default",
    }


def _relative(directory: Path) -> str:
    return f"{directory.parent.name}/{directory.name}"
