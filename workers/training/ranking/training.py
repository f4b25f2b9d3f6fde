"""Trains a cross-encoder: one logit per pair, against its label or in comparison with a query's other passages."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from corpus.rankings import compared
from jobspecs.kinds.train_reranker import LISTWISE, RerankerTraining
from workers.local_models.base_model import LoadedModel
from workers.local_models.devices import autocast
from workers.local_models.packed_encoder import Variant, classify, variant_of
from workers.local_models.tokens import Int64s, TokenTable, batch_of
from workers.run.context import RunContext
from workers.training.batches import BatchPlan, QueryPlan
from workers.training.course import Bools, chosen_by, course_of, mean_loss
from workers.training.loop import TrainingResult, rates_of, train
from workers.training.progress import Plan
from workers.training.ranking.losses import LOSSES
from workers.training.saving import write_classifier
from workers.training.word_embeddings import compact, decay_of


@dataclass(frozen=True)
class RankingTrainingData:
    """What is trained on: tokens of N pairs, labels (N,) from 0 to 1, and the number (N,) of each pair's query.

    `judged_later` is the number of held-out pairs, for the ETA.
    """

    tokens: TokenTable
    labels: npt.NDArray[np.float32]
    queries: Int64s
    judged_later: int = 0
    #: (N,) pairs that do not train and choose when to end; None: none.
    choosing: Bools | None = None


def train_reranker(
    context: RunContext,
    loaded: LoadedModel,
    data: RankingTrainingData,
    loss: str,
    training: RerankerTraining,
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
    task = _Ranking(loaded, variant, tokens, data, loss, device)

    def batches(rows: Int64s, epochs: float) -> Plan:
        if loss in LISTWISE:
            return QueryPlan(data.queries[rows], training.batch_size, epochs, training.seed)
        grouped = variant == "padded"
        return BatchPlan(tokens.lengths[rows], training.batch_size, epochs, training.seed, grouped=grouped)

    telling = None
    if loss in LISTWISE:
        # A query may be in both parts, and is compared within each.
        parts = data.queries * 2 + (0 if data.choosing is None else data.choosing)
        telling = compared(data.labels, parts)
    course = course_of(training, data.queries, choosing=data.choosing, telling=telling)
    plan = course.plan(batches)
    evaluation = course.evaluation(task, plan, batches)
    later = data.judged_later
    result = train(context, task, plan, training, device, judged_later=later, evaluation=evaluation, clock=clock)
    if set_aside is not None:
        set_aside.restore(model, decay_of(rates_of(result, training), training.weight_decay))
    return result


def write_reranker(output_dir: Path, loaded: LoadedModel, max_length: int) -> None:
    """As `write_classifier`; the config also tells sentence-transformers to give scores from 0 to 1."""
    loaded.model.config.sentence_transformers = {
        "activation_fn": "torch.nn.modules.activation.Sigmoid",
        "version": version("sentence-transformers"),
    }
    write_classifier(output_dir, loaded, max_length)


class _Ranking:
    """The task: logits of a step's pairs against their labels."""

    def __init__(
        self,
        loaded: LoadedModel,
        variant: Variant,
        tokens: TokenTable,
        data: RankingTrainingData,
        loss: str,
        device: torch.device,
    ) -> None:
        self._loaded, self._variant, self._tokens, self._data = loaded, variant, tokens, data
        self._loss, self._device = loss, device

    @property
    def model(self) -> PreTrainedModel:
        return self._loaded.model

    def loss(self, rows: Int64s) -> torch.Tensor:
        labels = torch.from_numpy(self._data.labels[rows]).to(self._device, non_blocking=True)
        queries = torch.from_numpy(self._data.queries[rows]).to(self._device, non_blocking=True)
        batch = batch_of(self._tokens, rows).to(self._device)
        with autocast(self._device):
            logits = classify(self.model, batch, self._variant, self._loaded.pad_id)
        return LOSSES[self._loss](logits[:, 0].float(), labels, queries)

    def measure(self, batches: list[Int64s]) -> float:
        return mean_loss(self.loss, batches)

    def backward(self, rows: Int64s) -> torch.Tensor:
        loss = self.loss(rows)
        torch.autograd.backward(loss)
        return loss.detach()

    def terms(self, rows: Int64s) -> float:
        # ListMLE sums over the places of a query's ranking: at the start about L ln L for L passages, 1,020 for 230.
        if self._loss != "listmle":
            return 1
        return int(np.unique(self._data.queries[rows], return_counts=True)[1].max())

    def fingerprint(self) -> bytes:
        tokens = self._data.tokens
        arrays = [tokens.ids, tokens.offsets, self._data.labels, self._data.queries, *chosen_by(self._data.choosing)]
        arrays += [] if tokens.types is None else [tokens.types]
        # With these losses, queries with one label are not looked at.
        choices = self._loss + (" compared" if self._loss in LISTWISE else "")
        return choices.encode() + b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
