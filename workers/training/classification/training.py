"""Trains a sequence classifier: cross-entropy over the classes, without padding where the architecture allows it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch.nn import functional
from transformers import PreTrainedModel

from jobspecs.kinds.train_classifier import ClassifierTraining
from workers.local_models.base_model import LoadedModel, is_of_head
from workers.local_models.devices import autocast, move_to
from workers.local_models.packed_encoder import Variant, classify, variant_of
from workers.local_models.tokens import Int64s, TokenTable, batch_of
from workers.run.context import RunContext
from workers.training.batches import BatchPlan
from workers.training.course import Bools, chosen_by, course_of
from workers.training.loop import TrainingResult, rates_of, train
from workers.training.optimization import build_optimizer
from workers.training.word_embeddings import compact, decay_of

#: Natural logarithms of the temperatures that are tried: from 1/20 to 20.
_LOG_TEMPERATURES = (-3.0, 3.0)


@dataclass(frozen=True)
class TrainingData:
    """What is trained on: tokens of N texts and labels (N,) below `classes`.

    `judged_later` is the number of held-out texts, for the ETA.
    """

    tokens: TokenTable
    labels: Int64s
    classes: int
    #: Every class has the same say in the loss, however few its rows.
    balanced: bool = False
    judged_later: int = 0
    #: (N,) texts that do not train and choose when to end; None: none.
    choosing: Bools | None = None


def train_classifier(
    context: RunContext,
    loaded: LoadedModel,
    data: TrainingData,
    training: ClassifierTraining,
    device: torch.device,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingResult:
    """Trains `loaded.model` in place, exactly resumable. Raises what `workers.training.loop.train` raises."""
    model, variant = loaded.model, variant_of(loaded.model)
    if training.freeze_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    set_aside, tokens = None, data.tokens
    if variant == "packed" and not training.freeze_embeddings:
        set_aside, tokens = compact(model, tokens)
    task = _Classification(loaded, variant, tokens, data, training, device)

    def batches(rows: Int64s, epochs: float) -> BatchPlan:
        grouped = variant == "padded"
        return BatchPlan(tokens.lengths[rows], training.batch_size, epochs, training.seed, grouped=grouped)

    course = course_of(training, data.tokens.numbered(), data.labels, data.choosing)
    plan = course.plan(batches)
    evaluation = course.evaluation(task, plan, batches)
    later = data.judged_later
    prefix = f"{model.base_model_prefix}."
    head = [name for name, _ in model.named_parameters() if is_of_head(name, prefix)]
    optimizer = build_optimizer(move_to(model, device), training, head, training.head_factor(new=not loaded.has_head))
    result = train(
        context,
        task,
        plan,
        training,
        device,
        judged_later=later,
        evaluation=evaluation,
        optimizer=optimizer,
        clock=clock,
    )
    if set_aside is not None:
        set_aside.restore(model, decay_of(rates_of(result, training), training.weight_decay))
    return result


class _Classification:
    """The task: logits of a step's texts against their classes."""

    def __init__(
        self,
        loaded: LoadedModel,
        variant: Variant,
        tokens: TokenTable,
        data: TrainingData,
        training: ClassifierTraining,
        device: torch.device,
    ) -> None:
        self._loaded, self._variant, self._tokens, self._data = loaded, variant, tokens, data
        self._training, self._device = training, device
        self._class_weights = _class_weights(data, device)

    @property
    def model(self) -> PreTrainedModel:
        return self._loaded.model

    def measure(self, batches: list[Int64s]) -> float:
        """The cross-entropy at the temperature that makes it least.

        Plain, it rises as soon as a model becomes too sure of itself, while it still learns to tell classes apart
        (arXiv:2501.19195).
        """
        with torch.no_grad():
            logits = torch.cat([self._logits(rows) for rows in batches]).cpu()
        labels = torch.from_numpy(self._data.labels[np.concatenate(batches)])
        weights = None if self._class_weights is None else self._class_weights.cpu()

        def loss(log_temperature: float) -> float:
            return float(functional.cross_entropy(logits / math.exp(log_temperature), labels, weight=weights))

        return float(minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded").fun)

    def backward(self, rows: Int64s) -> torch.Tensor:
        labels = torch.from_numpy(self._data.labels[rows]).to(self._device, non_blocking=True)
        loss = functional.cross_entropy(
            self._logits(rows), labels, weight=self._class_weights, label_smoothing=self._training.label_smoothing
        )
        torch.autograd.backward(loss)
        return loss.detach()

    def _logits(self, rows: Int64s) -> torch.Tensor:
        batch = batch_of(self._tokens, rows).to(self._device)
        with autocast(self._device):
            logits = classify(self.model, batch, self._variant, self._loaded.pad_id)
        return logits.float()

    def terms(self, rows: Int64s) -> float:
        return 1

    def fingerprint(self) -> bytes:
        arrays = [self._data.tokens.ids, self._data.tokens.offsets, self._data.labels, *chosen_by(self._data.choosing)]
        # What decides `class_weights: auto` may be read in another way by a later version.
        return f"{self._data.classes} {self._data.balanced}".encode() + b"".join(
            np.ascontiguousarray(array).tobytes() for array in arrays
        )


def _class_weights(data: TrainingData, device: torch.device) -> torch.Tensor | None:
    """Weights (classes,) that give every class the same say; None when all rows count alike."""
    if not data.balanced:
        return None
    labels = data.labels if data.choosing is None else data.labels[~data.choosing]
    counts = np.bincount(labels, minlength=data.classes).clip(min=1)
    return torch.from_numpy(len(labels) / (data.classes * counts)).float().to(device)
