"""The LM head and its loss without ever holding all logits: 1,024 tokens of a vocabulary of 128,256 are 525 MB of them.

Rows are taken a few at a time. Where the weight of each token is known beforehand (cross-entropy), gradients are
computed in the forward pass while the logits are there, as Liger's fused linear cross-entropy does (arXiv:2410.10989).
Where it depends on other tokens (preferences), the backward pass computes the logits again, as Cut Cross-Entropy does
(arXiv:2411.09009). The head may be frozen: then its gradient, as large as itself, does not exist.

Notation: S supervised tokens, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch

from workers.local_models.linear import product

#: Bytes of logits (fp32) that are held at once, and the fewest rows that are worth a matrix product.
_LOGITS_BYTES, _ROWS_MIN = 16 << 20, 32


@dataclass(frozen=True)
class Head:
    """What turns hidden states into logits: weight (V, H), bias (V,) or None, and what some models do to the result."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    #: Logits are multiplied by this.
    scale: float = 1.0
    #: Logits z become cap * tanh(z / cap).
    softcap: float | None = None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(S, H) to (S, V), in fp32. Memory as its name says: for small S."""
        logits = product(hidden, self.weight).float()
        if self.scale != 1.0:
            logits *= self.scale
        if self.bias is not None:
            logits += self.bias
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap

    def gradients(self, logits: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient (S, V) before cap and scale, given that of the logits; changes `gradient` in place."""
        if self.softcap is not None:
            gradient *= 1 - (logits / self.softcap) ** 2
        return gradient


def weighted_loss(hidden: torch.Tensor, head: Head, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum over S tokens of weight x cross-entropy, in nats: a scalar. hidden (S, H), targets (S,), weights (S,)."""
    if not torch.is_grad_enabled():
        return -(token_log_probs(hidden, head, targets) * weights).sum()
    return cast(torch.Tensor, _WeightedLoss.apply(hidden, head.weight, head.bias, head, targets, weights))


def token_log_probs(hidden: torch.Tensor, head: Head, targets: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (S,) of the targets, in nats."""
    return cast(torch.Tensor, _TokenLogProbs.apply(hidden, head.weight, head.bias, head, targets))


class _Gradients:
    """Collects the gradients of hidden states, weight and bias, chunk by chunk."""

    def __init__(self, hidden: torch.Tensor, head: Head, needed: tuple[bool, bool, bool]) -> None:
        self.source, self.head = hidden, head
        self.hidden = torch.empty_like(hidden) if needed[0] else None
        self.weight = torch.zeros_like(head.weight) if needed[1] else None
        self.bias = torch.zeros_like(head.bias) if needed[2] and head.bias is not None else None

    def add(self, rows: slice, gradient: torch.Tensor) -> None:
        """`gradient` (rows, V) of the logits before cap; it is no longer needed afterwards."""
        if self.bias is not None:
            self.bias += gradient.sum(0).to(self.bias.dtype)
        if self.head.scale != 1.0:
            gradient *= self.head.scale
        gradient = gradient.to(self.source.dtype)
        if self.hidden is not None:
            self.hidden[rows] = product(gradient, self.head.weight.to(gradient.dtype).t())
        if self.weight is not None:
            # In place: a product of its own would be a second matrix as large as the head, for every chunk.
            self.weight.addmm_(gradient.t().to(self.weight.dtype), self.source[rows].to(self.weight.dtype))


class _WeightedLoss(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        head: Head,
        targets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        gradients = _Gradients(hidden, head, ctx.needs_input_grad[:3])
        total = torch.zeros(
            (), dtype=torch.float64 if hidden.device.type == "cpu" else torch.float32, device=hidden.device
        )
        for rows in _chunks(hidden, weight):
            logits = head.logits(hidden[rows])
            chosen = logits.gather(1, targets[rows, None])
            largest = logits.amax(1, keepdim=True)
            # In place, where the logits themselves are not needed again: each copy is as large as the chunk.
            gradient = (logits.sub(largest) if head.softcap is not None else logits.sub_(largest)).exp_()
            sums = gradient.sum(1, keepdim=True)
            total += ((sums.log() + largest - chosen)[:, 0] * weights[rows]).sum()
            gradient *= weights[rows, None] / sums
            gradient[torch.arange(len(gradient), device=hidden.device), targets[rows]] -= weights[rows]
            gradients.add(rows, head.gradients(logits, gradient))
        ctx.save_for_backward(*(g for g in (gradients.hidden, gradients.weight, gradients.bias) if g is not None))
        ctx.present = [g is not None for g in (gradients.hidden, gradients.weight, gradients.bias)]
        return total.float()

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        # The factor is 1 unless someone scales the loss: then in place, as each gradient is used once.
        found = [next(saved).mul_(outer[0]) if there else None for there in ctx.present]
        return (*found, None, None, None)


class _TokenLogProbs(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        head: Head,
        targets: torch.Tensor,
    ) -> torch.Tensor:
        log_probs = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        normalizers = torch.empty_like(log_probs)
        for rows in _chunks(hidden, weight):
            logits = head.logits(hidden[rows])
            normalizers[rows] = logits.logsumexp(1)
            log_probs[rows] = logits.gather(1, targets[rows, None])[:, 0] - normalizers[rows]
        ctx.save_for_backward(hidden, targets, normalizers)
        ctx.head = head
        return log_probs

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden, targets, normalizers = ctx.saved_tensors
        head, factors = ctx.head, outer[0]
        gradients = _Gradients(hidden, head, ctx.needs_input_grad[:3])
        for rows in _chunks(hidden, head.weight):
            logits = head.logits(hidden[rows])
            gradient = logits.sub(normalizers[rows, None]).exp_().neg_()
            gradient[torch.arange(len(gradient), device=hidden.device), targets[rows]] += 1
            gradient *= factors[rows, None]
            gradients.add(rows, head.gradients(logits, gradient))
        return (gradients.hidden, gradients.weight, gradients.bias, None, None)


def _chunks(hidden: torch.Tensor, weight: torch.Tensor) -> Iterator[slice]:
    size = max(_ROWS_MIN, _LOGITS_BYTES // (4 * weight.shape[0]))
    return (slice(start, min(start + size, len(hidden))) for start in range(0, len(hidden), size))
