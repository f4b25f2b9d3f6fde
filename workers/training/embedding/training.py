"""Trains an embedder: all texts of a step go through one forward pass, whichever column they come from.

With the cached loss the texts go through in mini-batches, twice: without a graph for the embeddings, then again with
one, to carry the loss's gradients on into the weights (GradCache, arXiv:2101.06983). Memory then depends on the
mini-batch, while the loss sees the whole batch. The random numbers of the second pass are those of the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from jobspecs.kinds.train_embedder import TrainEmbedder
from workers.local_models.embedding_network import EmbeddingNetwork
from workers.local_models.tokens import Int64s, TokenTable
from workers.run.context import RunContext
from workers.training.batches import BatchPlan, DistinctPlan, TwinPlan
from workers.training.course import Bools, chosen_by, course_of, mean_loss
from workers.training.embedding.losses import build_loss, cached_gradients
from workers.training.loop import TrainingResult, rates_of, train
from workers.training.progress import Plan
from workers.training.word_embeddings import compact, decay_of

#: Texts of a mini-batch unless the spec says otherwise.
MINI_BATCH_TEXTS = 32


@dataclass(frozen=True)
class EmbeddingTrainingData:
    """N rows of C texts. `places` (N, C): which text of `tokens`; `contents` (N, C): equal for equal texts.

    The two differ where a text occurs with more than one prompt. `targets` (N,): scores, classes or None.
    `judged_later` is the number of held-out texts, for the ETA.
    """

    tokens: TokenTable
    places: Int64s
    contents: Int64s
    targets: npt.NDArray[np.float32] | None
    judged_later: int = 0
    #: (N,) rows that do not train and choose when to end; None: none.
    choosing: Bools | None = None


def train_embedder(
    context: RunContext,
    network: EmbeddingNetwork,
    data: EmbeddingTrainingData,
    spec: TrainEmbedder,
    device: torch.device,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingResult:
    """Trains `network` in place, exactly resumable. Raises what `workers.training.loop.train` raises."""
    training, set_aside, tokens = spec.training, None, data.tokens
    if training.freeze_embeddings:
        network.encoder.get_input_embeddings().requires_grad_(False)
    elif network.variant == "packed":
        set_aside, tokens = compact(network.encoder, tokens)
    task = EmbeddingTask(network, tokens, data, spec, device)

    def batches(rows: Int64s, epochs: float) -> Plan:
        return build_plan(data, spec, rows, epochs, grouped=network.variant == "padded")

    classes = _classes(data, spec)
    together = 1 if classes is None else 2
    course = course_of(training, data.contents[:, 0], classes, data.choosing, together=together)
    plan = course.plan(batches)
    evaluation = course.evaluation(task, plan, batches)
    later = data.judged_later
    result = train(context, task, plan, training, device, judged_later=later, evaluation=evaluation, clock=clock)
    if set_aside is not None:
        set_aside.restore(network.encoder, decay_of(rates_of(result, training), training.weight_decay))
    return result


def build_plan(data: EmbeddingTrainingData, spec: TrainEmbedder, rows: Int64s, epochs: float, *, grouped: bool) -> Plan:
    """The steps over some rows: distinct texts where a batch's other rows are negatives, twins where classes are."""
    training = spec.training
    if spec.no_duplicates:
        return DistinctPlan(data.contents[rows], training.batch_size, epochs, training.seed)
    if (classes := _classes(data, spec)) is not None:
        return TwinPlan(classes[rows], training.batch_size, epochs, training.seed)
    lengths = data.tokens.lengths[data.places[rows]].sum(axis=1)
    return BatchPlan(lengths, training.batch_size, epochs, training.seed, grouped=grouped)


def _classes(data: EmbeddingTrainingData, spec: TrainEmbedder) -> Int64s | None:
    """The class (N,) of each row, where rows are texts with classes."""
    if spec.shape != "labelled-texts" or data.targets is None:
        return None
    return data.targets.astype(np.int64)


class EmbeddingTask:
    """The task: embeddings of a step's texts against each other, or against the rows' targets."""

    def __init__(
        self,
        network: EmbeddingNetwork,
        tokens: TokenTable,
        data: EmbeddingTrainingData,
        spec: TrainEmbedder,
        device: torch.device,
    ) -> None:
        self._network, self._tokens, self._data, self._spec, self._device = network, tokens, data, spec, device
        self._loss = build_loss(spec)
        self._cached = spec.loss_name == "cached-multiple-negatives-ranking"

    @property
    def model(self) -> EmbeddingNetwork:
        return self._network

    def loss(self, rows: Int64s) -> torch.Tensor:
        texts = self._data.places[rows].T.reshape(-1)
        if self._cached:
            # As in training only so many texts are in memory at once.
            embeddings = torch.zeros(len(texts), self._network.dimensions, device=self._device)
            for part in self._mini_batches(texts):
                embeddings[torch.from_numpy(part)] = self._network.embed(self._tokens, texts[part], self._device)
        else:
            embeddings = self._network.embed(self._tokens, texts, self._device)
        return self._loss(embeddings.view(-1, len(rows), embeddings.shape[1]).unbind(), self._targets(rows))

    def measure(self, batches: list[Int64s]) -> float:
        return mean_loss(self.loss, batches)

    def backward(self, rows: Int64s) -> torch.Tensor:
        if self._cached:
            return self._backward_cached(self._data.places[rows].T.reshape(-1), self._data.places.shape[1])
        loss = self.loss(rows)
        torch.autograd.backward(loss)
        return loss.detach()

    def terms(self, rows: Int64s) -> float:
        # A loss for each of the dimensions. Two similarities differ by at most 2, times the scale: from a scale of 500
        # on, whatever is ordered wrongly costs more than a diverged cross-entropy.
        return max(1, len(self._spec.matryoshka_dims)) * max(1.0, self._spec.training.scale / 500)

    def fingerprint(self) -> bytes:
        tokens = self._data.tokens
        arrays = [tokens.ids, tokens.offsets, self._data.places, self._data.contents, *chosen_by(self._data.choosing)]
        arrays += [] if self._data.targets is None else [self._data.targets]
        choices = f"{self._spec.loss_name} {self._spec.matryoshka_dims} {self._network.pooling}"
        if _classes(self._data, self._spec) is not None:
            # Rows are set aside in twos: a run that began with other rows set aside is another one.
            choices += " twins"
        return choices.encode() + b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)

    def _backward_cached(self, texts: Int64s, columns: int) -> torch.Tensor:
        parts = self._mini_batches(texts)
        generators = []
        embeddings = torch.zeros(len(texts), self._network.dimensions, device=self._device)
        for part in parts:
            generators.append(_generators(self._device))
            with torch.no_grad():
                embeddings[torch.from_numpy(part)] = self._network.embed(self._tokens, texts[part], self._device)
        by_column = embeddings.view(columns, len(texts) // columns, -1).unbind()
        loss, gradients = cached_gradients(by_column, self._spec.training.scale, self._spec.matryoshka_dims)
        flat = gradients.view(embeddings.shape)
        for part, before in zip(parts, generators, strict=True):
            _set_generators(self._device, before)
            again = self._network.embed(self._tokens, texts[part], self._device)
            torch.autograd.backward(again, flat[torch.from_numpy(part)])
        return loss

    def _mini_batches(self, texts: Int64s) -> list[Int64s]:
        """Positions in `texts`, longest first, as many together as may be in memory at once with the cached loss."""
        size = self._spec.training.mini_batch_size or MINI_BATCH_TEXTS
        order = np.argsort(-self._tokens.lengths[texts], kind="stable")
        return [order[start : start + size] for start in range(0, len(order), size)]

    def _targets(self, rows: Int64s) -> torch.Tensor | None:
        if self._data.targets is None:
            return None
        return torch.from_numpy(self._data.targets[rows]).to(self._device, non_blocking=True)


def _generators(device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_generators(device: torch.device, states: tuple[torch.Tensor, torch.Tensor | None]) -> None:
    torch.set_rng_state(states[0])
    if states[1] is not None:
        torch.cuda.set_rng_state(states[1], device)
