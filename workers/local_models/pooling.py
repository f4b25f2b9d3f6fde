"""One vector per text from those of its tokens, without padding.

Notation: B texts, T tokens, H hidden size. The names are those of sentence-transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

from workers.local_models.tokens import TokenBatch


def pool(name: str, states: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    """(T, H) to (B, H). `name` is one of POOLING."""
    return POOLING[name](states, batch)


def _sum(states: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    text_of_token = torch.div(batch.padded_index, max(1, batch.longest), rounding_mode="floor")
    return states.new_zeros(batch.texts, states.shape[1]).index_add(0, text_of_token, states)


def _count(states: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    """Tokens per text (B, 1); an empty text counts as one so that its mean is zero."""
    return batch.lengths.clamp(min=1).to(states.dtype)[:, None]


def _mean(states: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    return _sum(states, batch) / _count(states, batch)


def _mean_sqrt_len(states: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    return _sum(states, batch) / _count(states, batch).sqrt()


def _weighted_mean(states: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    """The n-th token counts n times."""
    count = _count(states, batch)
    return _sum(states * (batch.positions + 1).to(states.dtype)[:, None], batch) / (count * (count + 1) / 2)


def _first(states: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    return states.index_select(0, batch.starts)


def _last(states: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    return states.index_select(0, batch.starts + batch.lengths - 1)


def _max(states: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
    padded = states.new_full((batch.mask.numel(), states.shape[1]), -torch.inf)
    padded = padded.index_copy(0, batch.padded_index, states)
    return padded.view(*batch.mask.shape, -1).amax(dim=1)


POOLING: Mapping[str, Callable[[torch.Tensor, TokenBatch], torch.Tensor]] = MappingProxyType(
    {
        "cls": _first,
        "max": _max,
        "mean": _mean,
        "mean_sqrt_len_tokens": _mean_sqrt_len,
        "weightedmean": _weighted_mean,
        "lasttoken": _last,
    }
)
