"""The training loop: steps, progress, checkpoints, and an exact continuation of an interrupted run."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from jobspecs.events import CheckpointEvent
from jobspecs.kinds.train_classifier import Training
from workers.runners.context import RunContext, RunStopped
from workers.training.base_model import LoadedModel
from workers.training.batches import BatchPlan
from workers.training.checkpoints import (
    TrainingState,
    UnusableCheckpoint,
    read_state,
    restore,
    save_checkpoint,
)
from workers.training.devices import autocast, move_to
from workers.training.embeddings import compact, decay_of
from workers.training.linear import prefers_onednn
from workers.training.optimization import (
    apply_gradients,
    build_optimizer,
    check_weights,
    learning_rate,
    set_learning_rate,
)
from workers.training.packed_encoder import Variant, classify, variant_of
from workers.training.progress import Progress
from workers.training.tokens import Int64s, TokenTable, batch_of

_log = logging.getLogger(__name__)

#: Seconds between checkpoints unless the spec counts steps.
_CHECKPOINT_EVERY_S = 60.0
#: Weight of the newest loss in the moving average.
_LOSS_WEIGHT = 0.05


@dataclass(frozen=True)
class TrainingData:
    """What is trained on: tokens of N texts and labels (N,) below `classes`.

    `judged_later` is the number of held-out texts, for the ETA.
    """

    tokens: TokenTable
    labels: Int64s
    classes: int
    judged_later: int = 0


@dataclass(frozen=True)
class TrainingResult:
    """`loss`: moving average in nats. `seconds` and `sequences_per_s` cover this attempt only."""

    steps: int
    loss: float
    seconds: float
    sequences_per_s: float
    resumed_at: int


def train(
    context: RunContext,
    loaded: LoadedModel,
    data: TrainingData,
    training: Training,
    device: torch.device,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingResult:
    """Trains `loaded.model` in place; continues from `context.resume_from` when that is a checkpoint of this run.

    Killed at any step and continued, it gives the same weights, bit for bit, on the same kind of machine.
    Raises RunFailed(nan_loss), and RunStopped after a last checkpoint when asked to stop.
    """
    model, variant = loaded.model, variant_of(loaded.model)
    fingerprint = _fingerprint(training, data, loaded)
    if training.freeze_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    set_aside = None
    if variant == "packed" and not training.freeze_embeddings:
        set_aside, tokens = compact(model, data.tokens)
        data = TrainingData(tokens, data.labels, data.classes, data.judged_later)
    move_to(model, device).train()
    run = _Run(context, loaded, data, training, device, variant, clock, fingerprint)
    result = run.to_the_end()
    check_weights(model)
    if set_aside is not None:
        set_aside.restore(model, decay_of(run.rates(), training.weight_decay))
    model.train(False)
    return result


class _Run:
    """One attempt. `step` counts optimizer steps done, over all attempts."""

    def __init__(
        self,
        context: RunContext,
        loaded: LoadedModel,
        data: TrainingData,
        training: Training,
        device: torch.device,
        variant: Variant,
        clock: Callable[[], float],
        fingerprint: str,
    ) -> None:
        self.context, self.loaded, self.data, self.training = context, loaded, data, training
        self.device, self.variant, self.clock, self.fingerprint = device, variant, clock, fingerprint
        self.plan = BatchPlan(
            data.tokens.lengths, training.batch_size, training.epochs, training.seed, grouped=variant == "padded"
        )
        self.optimizer = build_optimizer(loaded.model, training)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.class_weights = _class_weights(data, training, device)
        self.step, self.loss = 0, 0.0
        torch.manual_seed(training.seed)
        self._resume()
        self.saved_step, self.saved_at = self.step, clock()

    def rates(self) -> list[float]:
        """The learning rates of all steps."""
        return [learning_rate(step, self.plan.steps_total, self.training) for step in range(self.plan.steps_total)]

    def to_the_end(self) -> TrainingResult:
        first_step, begun = self.step, self.clock()
        progress = Progress(self.context.emit, self.plan, self.data.judged_later, self.clock)
        while self.step < self.plan.steps_total:
            if self.context.stop_requested():
                self._checkpoint()
                raise RunStopped
            rate = learning_rate(self.step, self.plan.steps_total, self.training)
            loss = self._take_step(rate)
            self.loss = loss if self.step == 0 else self.loss + _LOSS_WEIGHT * (loss - self.loss)
            self.step += 1
            progress.report(self.step, self.loss, rate)
            if self._checkpoint_due():
                self._checkpoint()
        seconds = self.clock() - begun
        return TrainingResult(self.step, self.loss, seconds, progress.sequences / max(seconds, 1e-9), first_step)

    def _take_step(self, rate: float) -> float:
        rows = self.plan.rows(self.step)
        labels = torch.from_numpy(self.data.labels[rows]).to(self.device, non_blocking=True)
        batch = batch_of(self.data.tokens, rows).to(self.device)
        self.optimizer.zero_grad()
        set_learning_rate(self.optimizer, rate)
        with autocast(self.device):
            logits = classify(self.loaded.model, batch, self.variant, self.loaded.pad_id)
        loss = functional.cross_entropy(
            logits.float(), labels, weight=self.class_weights, label_smoothing=self.training.label_smoothing
        )
        torch.autograd.backward(loss)
        return apply_gradients(self.optimizer, self.parameters, loss, self.training.max_grad_norm, self.step)

    def _checkpoint_due(self) -> bool:
        every = self.training.checkpoint_every_steps
        if every is not None:
            return self.step % every == 0
        # The end of training deserves one too, unless little would be lost: judging may still be interrupted.
        patience_s = _CHECKPOINT_EVERY_S if self.step < self.plan.steps_total else _CHECKPOINT_EVERY_S / 2
        return self.clock() - self.saved_at >= patience_s

    def _checkpoint(self) -> None:
        if self.step == self.saved_step:
            return
        state = TrainingState(self.step, self.loss, self.fingerprint, _environment(self.device))
        directory = save_checkpoint(self.context.checkpoints_dir, self.loaded.model, self.optimizer, state)
        self.saved_step, self.saved_at = self.step, self.clock()
        self.context.emit(CheckpointEvent(step=self.step, directory=_relative(directory)))

    def _resume(self) -> None:
        if self.context.resume_from is None:
            return
        try:
            state = read_state(self.context.resume_from, self.fingerprint)
            restore(self.context.resume_from, self.loaded.model, self.optimizer)
        except UnusableCheckpoint as error:
            # Nothing was loaded yet, so starting anew costs time but gives the same weights.
            _log.warning("checkpoint refused, training starts anew: %s", error)
            return
        self.step, self.loss = state.step, state.loss
        here = _environment(self.device)
        changed = [name for name, value in here.items() if state.environment.get(name) != value]
        if changed:
            _log.warning("the checkpoint was written with other %s: last digits may differ", ", ".join(changed))
        _log.info("continuing after step %d", self.step)


def _class_weights(data: TrainingData, training: Training, device: torch.device) -> torch.Tensor | None:
    """Weights (classes,) that give every class the same say; None when all rows count alike."""
    if training.class_weights == "none":
        return None
    counts = np.bincount(data.labels, minlength=data.classes).clip(min=1)
    return torch.from_numpy(len(data.labels) / (data.classes * counts)).float().to(device)


def _fingerprint(training: Training, data: TrainingData, loaded: LoadedModel) -> str:
    settings = training.model_dump_json(exclude={"checkpoint_every_steps"})
    shapes = [(name, tuple(tensor.shape)) for name, tensor in loaded.model.named_parameters()]
    digest = hashlib.sha256(f"{settings} {data.classes} {shapes}".encode())
    for array in (data.tokens.ids, data.tokens.offsets, data.labels):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _environment(device: torch.device) -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": str(torch.get_num_threads()),
        "linear": "onednn" if prefers_onednn() else "default",
    }


def _relative(directory: Path) -> str:
    return f"{directory.parent.name}/{directory.name}"
