"""AdamW, its learning rate over time, and the step that notices when a run diverges."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from jobspecs.kinds.training import Optimization
from jobspecs.lifecycle import Reason
from workers.run.context import RunFailed
from workers.training.world import shard_of, whole

#: A loss above this many nats per term is no longer training: exp(-1000) for the right class.
_LOSS_DIVERGED = 1000.0
#: What a group of parameters calls its share of the learning rate.
_FACTOR = "factor"


def build_optimizer(
    model: nn.Module, training: Optimization, head: Collection[str] = (), head_factor: float = 1
) -> AdamW:
    """AdamW over the trainable parameters; biases and layer norms (one dimension) do not decay.

    Parameters named in `head` learn `head_factor` times as fast. Fused: the default walks tensor by tensor, which takes
    10 times as long for BERT-base on a CPU.
    """
    faster = {id(parameter) for name, parameter in model.named_parameters() if name in head}
    groups = [
        {**group, "params": parameters, _FACTOR: head_factor if of_head else 1}
        for group in decay_groups(model, training)
        for of_head in (False, True)
        if (parameters := [p for p in group["params"] if (id(p) in faster) == of_head])
    ]
    return AdamW(groups, lr=training.learning_rate, fused=True)


def decay_groups(model: nn.Module, training: Optimization) -> list[dict[str, Any]]:
    """The trainable parameters as an optimizer takes them, those that decay and those that don't."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def learning_rate(step: int, steps_total: int, training: Optimization) -> float:
    """The rate of step `step`, counted from 0: a linear rise over the warm-up, then the schedule down to 0."""
    warmup = round(steps_total * training.warmup_fraction)
    if step < warmup:
        return training.learning_rate * (step + 1) / (warmup + 1)
    if training.schedule == "constant":
        return training.learning_rate
    done = (step - warmup) / max(1, steps_total - warmup)
    share = 1 - done if training.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return training.learning_rate * share


def learning_rates(steps_total: int, training: Optimization) -> list[float]:
    """The rates of all steps."""
    return [learning_rate(step, steps_total, training) for step in range(steps_total)]


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """For the next step, in every group; those that learn faster get so many times as much."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(_FACTOR, 1)


def apply_gradients(
    optimizer: Optimizer,
    parameters: Iterable[torch.Tensor],
    loss: torch.Tensor,
    max_grad_norm: float,
    step: int,
    terms: float = 1,
) -> float:
    """Clips the gradients and steps; returns the loss in nats.

    `terms`: how many terms of the size of a cross-entropy the loss is the sum of. Raises RunFailed(nan_loss) before the
    step when loss or gradients are no longer finite, or the loss is absurd.
    """
    norm = whole(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm))
    loss_value, norm_value = torch.stack((loss.detach().float(), norm.float())).tolist()
    if not math.isfinite(loss_value) or loss_value > _LOSS_DIVERGED * terms:
        raise RunFailed(Reason.nan_loss, f"step {step + 1}: the loss is {loss_value:g}; the training diverged.")
    if not math.isfinite(norm_value):
        raise RunFailed(Reason.nan_loss, f"step {step + 1}: the gradients are not finite; the training diverged.")
    optimizer.step()
    return float(loss_value)


def check_weights(model: nn.Module) -> None:
    """Raises RunFailed(nan_loss) when a weight is not finite, as a last step at a far too high rate can leave it."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(shard_of(parameter.detach())).all()):
            raise RunFailed(Reason.nan_loss, f"after the last step {name} is not finite; the training diverged.")
