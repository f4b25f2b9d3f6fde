"""What is minimised: supervised fine-tuning, DPO, ORPO, KTO. Functions of log-probabilities, in nats, without a model.

A sequence's log-probability is the sum over its answer's tokens. Shapes are (B,), one figure per pair or answer.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def dpo_losses(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    *,
    beta: float,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Direct preference optimization (arXiv:2305.18290), with the conservative variant's smoothing."""
    margins = beta * ((chosen - reference_chosen) - (rejected - reference_rejected))
    right, wrong = -functional.logsigmoid(margins), -functional.logsigmoid(-margins)
    return (1 - smoothing) * right + smoothing * wrong


def orpo_penalties(chosen_mean: torch.Tensor, rejected_mean: torch.Tensor) -> torch.Tensor:
    """The odds-ratio term of ORPO (arXiv:2403.07691); means of log-probability per token, below 0."""
    odds_chosen = chosen_mean - torch.log1p(-torch.exp(chosen_mean))
    odds_rejected = rejected_mean - torch.log1p(-torch.exp(rejected_mean))
    return -functional.logsigmoid(odds_chosen - odds_rejected)


def kto_losses(
    answers: torch.Tensor, reference: torch.Tensor, desirable: torch.Tensor, divergence: torch.Tensor, beta: float
) -> torch.Tensor:
    """Kahneman-Tversky optimization (arXiv:2402.01306). `divergence`: the KL to the reference, a scalar."""
    gains = beta * (answers - reference - divergence)
    return 1 - torch.sigmoid(torch.where(desirable, gains, -gains))


def divergence_of(mismatched: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The KL estimate of KTO, a scalar >= 0: answers of other prompts, which the model should be indifferent to."""
    return (mismatched - reference).mean().clamp(min=0).detach()
