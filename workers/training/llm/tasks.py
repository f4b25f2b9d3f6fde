"""One training step of each objective, in micro-batches whose number changes no result."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from jobspecs.kinds.finetune_llm import LlmTraining
from workers.local_models.row_moves import pick
from workers.local_models.tokens import Int64s
from workers.training.llm.decoder import Decoder
from workers.training.llm.lm_head import weighted_loss
from workers.training.llm.objectives import divergence_of, dpo_losses, kto_losses, orpo_penalties
from workers.training.llm.scoring import Float64s, sums, supervised_log_probs
from workers.training.llm.sequences import Bools, SequenceBatch, Sequences, batch_of, micro_batches
from workers.training.world import equal_parts, idle_part

Facts = npt.NDArray[Any]


@dataclass(frozen=True)
class _Task:
    """What the tasks share: the model, N or more sequences, and how steps are cut."""

    decoder: Decoder
    sequences: Sequences
    training: LlmTraining
    device: torch.device

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        return self.decoder.model

    def terms(self, rows: Int64s) -> float:
        """1: the losses are means over tokens, over rows, or bounded."""
        return 1

    def fingerprint(self) -> bytes:
        """sha256 over the sequences, what is learnt of them, and the forward pass."""
        digest = hashlib.sha256(self.decoder.variant.encode())
        for array in (self.sequences.ids, self.sequences.learnt, self.sequences.offsets, *self._facts()):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.digest()

    def _facts(self) -> tuple[Facts, ...]:
        return ()

    def _parts(self, lengths: Int64s, rows: Int64s) -> Iterator[Int64s]:
        training = self.training
        return micro_batches(lengths, rows, training.tokens_per_micro_batch, training.micro_batch_size)

    def _add_gradients(self, lengths: Int64s, rows: Int64s, loss_of: Callable[[Int64s], torch.Tensor]) -> torch.Tensor:
        """The sum of `loss_of` over the micro-batches of all processes; each adds the gradients of its own."""
        world = self.decoder.world
        shares = [list(self._parts(lengths, share)) for share in world.shares(lengths, rows)]
        total = torch.zeros((), device=self.device)
        for part, counts, last in equal_parts(shares, world.rank, idle_part(lengths, rows)):
            total += world.add_gradients(partial(loss_of, part), counts=counts, last=last)
        return world.sum(total)

    def _batch(self, rows: Int64s) -> SequenceBatch:
        return batch_of(self.sequences, rows).to(self.device)


class SupervisedTask(_Task):
    """Cross-entropy over the supervised tokens of a step, each token counting alike whichever row it stands in."""

    def backward(self, rows: Int64s) -> torch.Tensor:
        """Mean nats per supervised token."""
        tokens = int(self.sequences.supervised[rows].sum())

        def loss_of(part: Int64s) -> torch.Tensor:
            batch = self._batch(part)
            states = pick(self.decoder.hidden(batch), batch.predictors)
            weights = torch.full(batch.targets.shape, 1 / tokens, device=self.device)
            return weighted_loss(states, self.decoder.head, batch.targets, weights)

        return self._add_gradients(self.sequences.lengths, rows, loss_of)


@dataclass(frozen=True)
class _PairTask(_Task):
    """Row r is a pair: sequences 2r (chosen) and 2r + 1 (rejected)."""

    def backward(self, rows: Int64s) -> torch.Tensor:
        """Mean loss per pair."""

        def loss_of(part: Int64s) -> torch.Tensor:
            batch = self._batch(np.stack((2 * part, 2 * part + 1), axis=1).reshape(-1))
            return self._losses(batch, part, rows).sum()

        return self._add_gradients(self.sequences.lengths.reshape(-1, 2).sum(1), rows, loss_of)

    def _losses(self, batch: SequenceBatch, pairs: Int64s, rows: Int64s) -> torch.Tensor:
        raise NotImplementedError

    def _chosen_and_rejected(self, values: torch.Tensor, batch: SequenceBatch, pairs: Int64s) -> list[torch.Tensor]:
        """(B,) in the order of the batch to two (pairs,) in the order of `pairs`."""
        place = {int(sequence): position for position, sequence in enumerate(batch.order)}
        return [
            values[torch.tensor([place[2 * int(pair) + side] for pair in pairs], device=values.device)]
            for side in (0, 1)
        ]


@dataclass(frozen=True)
class DpoTask(_PairTask):
    """`reference` (2N,): log-probabilities before training."""

    reference: Float64s

    def terms(self, rows: Int64s) -> float:
        """A margin is beta times a sum over the tokens of two answers."""
        pairs = self.sequences.supervised.reshape(-1, 2).sum(1)
        return max(1.0, self.training.beta * float(pairs[rows].max()))

    def _facts(self) -> tuple[Facts, ...]:
        return (self.reference,)

    def _losses(self, batch: SequenceBatch, pairs: Int64s, rows: Int64s) -> torch.Tensor:
        policy = sums(supervised_log_probs(self.decoder, batch), batch)
        chosen, rejected = self._chosen_and_rejected(policy, batch, pairs)
        before = [torch.from_numpy(self.reference[2 * pairs + side]).to(policy) for side in (0, 1)]
        beta, smoothing = self.training.beta, self.training.label_smoothing
        return dpo_losses(chosen, rejected, before[0], before[1], beta=beta, smoothing=smoothing) / len(rows)


@dataclass(frozen=True)
class OrpoTask(_PairTask):
    """`answers`: the tokens of the answers; `sequences.learnt` may mark the chosen prompts too (`loss_on: all`)."""

    answers: Bools

    def _facts(self) -> tuple[Facts, ...]:
        return (self.answers,)

    def _losses(self, batch: SequenceBatch, pairs: Int64s, rows: Int64s) -> torch.Tensor:
        log_probs = supervised_log_probs(self.decoder, batch)
        answer = torch.from_numpy(self.answers[batch.sources]).to(self.device)
        counts = sums(answer.to(log_probs), batch)
        means = sums(log_probs * answer, batch) / counts
        chosen, rejected = self._chosen_and_rejected(means, batch, pairs)
        learnt = int(self.sequences.supervised[2 * rows].sum())
        likelihood = -self._chosen_and_rejected(sums(log_probs, batch), batch, pairs)[0] / learnt
        return likelihood + self.training.orpo_lambda * orpo_penalties(chosen, rejected) / len(rows)


@dataclass(frozen=True)
class KtoTask(_Task):
    """Row r is sequence r; sequence N + r is its prompt with the answer of another row. `reference` (2N,)."""

    desirable: Bools
    reference: Float64s

    def _facts(self) -> tuple[Facts, ...]:
        return (self.desirable, self.reference)

    def backward(self, rows: Int64s) -> torch.Tensor:
        """Mean loss per answer."""
        divergence = self._divergence(rows)

        def loss_of(part: Int64s) -> torch.Tensor:
            batch = self._batch(part)
            policy = sums(supervised_log_probs(self.decoder, batch), batch)
            before = torch.from_numpy(self.reference[batch.order]).to(policy)
            desirable = torch.from_numpy(self.desirable[batch.order]).to(self.device)
            return kto_losses(policy, before, desirable, divergence, self.training.beta).sum() / len(rows)

        return self._add_gradients(self.sequences.lengths, rows, loss_of)

    def _divergence(self, rows: Int64s) -> torch.Tensor:
        world, parts = self.decoder.world, list(self._parts(self.sequences.lengths, len(self.desirable) + rows))
        found = [torch.zeros(len(part), device=self.device) for part in parts]
        for number, counts in world.dealt(len(parts)):
            batch = self._batch(parts[number])
            with torch.no_grad():
                policy = sums(world.run(partial(supervised_log_probs, self.decoder, batch)), batch)
                if counts:
                    found[number] = policy - torch.from_numpy(self.reference[batch.order]).to(policy)
        differences = world.sum(torch.cat(found))
        return divergence_of(differences, torch.zeros_like(differences))
