"""Where numbers part that should be equal: by which token, by which layer, by which factor.

Positions rotate by their distance from the first token, so the first one's logits know nothing of them. Hidden states
before the head tell its faults from all others. And weights that are a multiple of what they should be are one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from jobspecs.verification import Cause
from workers.local_models.tokens import Int64s

#: Of hidden states that are the same but for the head: their difference over their size.
_SAME_HIDDEN = 0.05
#: A factor that is no rounding, and the share that a difference may have which the factor does not explain.
_FACTOR_FROM, _UNEXPLAINED_MAX = 0.05, 0.3
#: Adapters change matrices; rows of them that are looked at.
_ROWS = 256


@dataclass(frozen=True)
class Weights:
    """The models whose weights are compared: what was made, its source, and the source's own base where it has one."""

    made: PreTrainedModel
    source: PreTrainedModel
    base: Mapping[str, torch.Tensor] | None = None


def cause_of(weights: Weights, ids: Int64s, *, first_is_right: bool) -> tuple[Cause, str]:
    """What to call it, and a sentence. `first_is_right`: so are logits after a text's first token."""
    if first_is_right:
        return Cause.rope, "it is right after a text's first token and wrong from the second on: its rotary embeddings."
    if _head_alone(weights, ids):
        return Cause.head, "its hidden states are the source's and its logits are not: the output head."
    factor = _factor(weights)
    if factor is not None:
        what = "the weights are" if weights.base is None else "the adapter's change of the weights is"
        return Cause.scale, f"{what} there {factor:.2f} times."
    return Cause.weights, "its weights are further from the source's than they may be."


def _head_alone(weights: Weights, ids: Int64s) -> bool:
    first, second = (_hidden(model, ids) for model in (weights.source, weights.made))
    if first.shape != second.shape:
        return False
    return float((first - second).norm() / first.norm()) < _SAME_HIDDEN


def _hidden(model: PreTrainedModel, ids: Int64s) -> torch.Tensor:
    """What the head is given: (T, H)."""
    with torch.inference_mode():
        found = model.base_model(input_ids=torch.from_numpy(np.array(ids))[None].to(model.device), use_cache=False)
    return found.last_hidden_state[0].float().cpu()


def _factor(weights: Weights) -> float | None:
    """By least squares over all matrices: made = base + factor x (source - base); None where it explains nothing."""
    dot = square = rest = 0.0
    for made, wanted in _changes(weights):
        dot, square, rest = dot + float(made @ wanted), square + float(wanted @ wanted), rest + float(made @ made)
    if not square or not rest:
        return None
    factor = dot / square
    unexplained = 1.0 - dot * factor / rest
    return factor if abs(factor - 1.0) > _FACTOR_FROM and unexplained < _UNEXPLAINED_MAX else None


def _changes(weights: Weights) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    made = dict(_matrices(weights.made))
    for name, wanted in _matrices(weights.source):
        if name not in made or made[name].shape != wanted.shape:
            continue
        base = None if weights.base is None else weights.base.get(name)
        if weights.base is not None and base is None:
            continue
        rows = [one[:_ROWS].float().flatten() for one in (made[name], wanted)]
        if base is not None:
            rows = [one - base[:_ROWS].float().flatten() for one in rows]
        yield rows[0], rows[1]


def _matrices(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.weight.dtype.is_floating_point:
            yield f"{name}.weight", module.weight.detach()
