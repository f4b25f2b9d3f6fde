"""What an objective needs before its first step: its task, the reference, and how held-out rows are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from jobspecs.kinds.finetune_llm import FinetuneLlm
from workers.judging.llm_verdict import HeldOut
from workers.local_models.tokens import Int64s
from workers.training.llm.decoder import Decoder
from workers.training.llm.objectives import divergence_of, dpo_losses, kto_losses, orpo_penalties
from workers.training.llm.rows import Rows, joined, mismatched
from workers.training.llm.scoring import Float64s, sequence_log_probs
from workers.training.llm.sequences import Bools, Sequences
from workers.training.llm.tasks import DpoTask, KtoTask, OrpoTask, SupervisedTask

AfterBatch = Callable[[int], None]
LlmTask = SupervisedTask | DpoTask | OrpoTask | KtoTask
#: Objectives whose rows are two sequences, the chosen one first.
PAIRS = ("dpo", "orpo")


@dataclass(frozen=True)
class Scorer:
    """Scores sequences with the model as it is now; it must be out of training mode."""

    decoder: Decoder
    spec: FinetuneLlm
    device: torch.device

    def __call__(self, sequences: Sequences, after_batch: AfterBatch = lambda done: None) -> Float64s:
        """Log-probabilities (N,) of the supervised tokens of each sequence."""
        tokens = self.spec.training.tokens_per_micro_batch
        return sequence_log_probs(self.decoder, sequences, tokens, self.device, after_batch)


def scored(rows: Rows, spec: FinetuneLlm) -> Sequences:
    """The sequences whose log-probabilities the objective needs: for KTO, mismatched answers beside the real ones."""
    if spec.objective != "kto":
        return rows.sequences
    return joined(rows.sequences, mismatched(rows.sequences, rows.max_length))


def rows_of(rows: Rows, spec: FinetuneLlm) -> Int64s:
    """Tokens (R,) of each row that a step may hold."""
    lengths = rows.sequences.lengths
    return lengths.reshape(-1, 2).sum(1) if spec.objective in PAIRS else lengths


def task_of(rows: Rows, spec: FinetuneLlm, scorer: Scorer, after_batch: AfterBatch) -> LlmTask:
    """The training task. The reference of dpo and kto is the model as it is now, before its first step."""
    decoder, training, device = scorer.decoder, spec.training, scorer.device
    sequences = scored(rows, spec)
    if spec.objective == "dpo":
        return DpoTask(decoder, sequences, training, device, scorer(sequences, after_batch))
    if spec.objective == "kto":
        reference = scorer(sequences, after_batch)
        return KtoTask(decoder, sequences, training, device, rows.desirable, reference)
    if spec.objective == "orpo":
        answers = sequences.learnt
        if training.loss_on == "all":
            sequences = replace(sequences, learnt=answers | _chosen(sequences))
        return OrpoTask(decoder, sequences, training, device, answers)
    return SupervisedTask(decoder, sequences, training, device)


def held_out_loss(rows: Rows, spec: FinetuneLlm, before: Float64s, now: Float64s) -> float:
    """The objective's own loss on held-out rows, for early stopping. Log-probabilities are those of `scored(rows)`."""
    training, tokens = spec.training, rows.sequences.supervised
    count = len(rows)
    if spec.objective in PAIRS:
        if spec.objective == "orpo":
            likelihood = -float(now[::2].sum() / tokens[::2].sum())
            return likelihood + training.orpo_lambda * float(orpo_penalties(*_pairs(now / tokens)).mean())
        chosen, rejected = _pairs(now)
        losses = dpo_losses(chosen, rejected, *_pairs(before), beta=training.beta, smoothing=training.label_smoothing)
        return float(losses.mean())
    if spec.objective == "kto":
        policy, reference_ = torch.from_numpy(now), torch.from_numpy(before)
        divergence = divergence_of(policy[count:], reference_[count:])
        desirable = torch.from_numpy(rows.desirable)
        return float(kto_losses(policy[:count], reference_[:count], desirable, divergence, training.beta).mean())
    return -float(now.sum() / tokens.sum())


def judged(rows: Rows, spec: FinetuneLlm, before: Float64s, after: Float64s) -> tuple[HeldOut, Float64s | None]:
    """The answers whose loss is judged (chosen, desirable or all), and the rewards of preferences."""
    sequences, count = rows.sequences, len(rows)
    tokens = sequences.supervised
    if spec.objective in PAIRS:
        gains = after - before
        scale = spec.training.beta if spec.objective == "dpo" else 1.0
        return HeldOut(before[::2], after[::2], tokens[::2]), scale * (gains[::2] - gains[1::2])
    if spec.objective == "kto":
        gains = (after - before)[:count]
        rewards = spec.training.beta * np.where(rows.desirable, gains, -gains)
        wanted = np.flatnonzero(rows.desirable) if rows.desirable.any() else np.arange(count)
        return HeldOut(before[wanted], after[wanted], tokens[wanted]), rewards
    return HeldOut(before, after, tokens), None


def _pairs(values: Float64s) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(values[::2]), torch.from_numpy(values[1::2])


def _chosen(sequences: Sequences) -> Bools:
    """True for every token of every second sequence, the first included."""
    owner = np.repeat(np.arange(len(sequences)), sequences.lengths)
    chosen: Bools = owner % 2 == 0
    return chosen
