"""Causal attention for sequences laid end to end: no row sees another, and only attention itself ever pads.

Every linear layer and norm of the model runs on the T real tokens of a micro-batch, as one row of T tokens whose
positions start anew with each sequence. Around the attention product alone, sequences of similar length are spread to
(B, L); padding stands at the end, so the causal mask hides it and no other mask is needed. It is registered with the
library's attention interface, so the model's own code runs unchanged. Padding-free training: arXiv:2407.09105.

Notation: T tokens, B sequences, L tokens of the longest, A heads, D size of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface

from workers.local_models.row_moves import pick

#: The name under which the models find `attend`.
PACKED = "eigenwerk_packed"


@dataclass(frozen=True)
class Bucket:
    """Sequences of similar length that stand next to each other: tokens `start` to `stop` of the batch."""

    start: int
    stop: int
    sequences: int
    longest: int
    #: (stop - start,) index of each token in the padded (B * L) form; None when all lengths are equal.
    padded_index: torch.Tensor | None


@dataclass(frozen=True)
class PackedLayout:
    """Where each sequence of a batch of `tokens` tokens begins and ends."""

    buckets: tuple[Bucket, ...]
    tokens: int

    def to(self, device: torch.device) -> PackedLayout:
        """The same layout with its indices on another device."""
        return PackedLayout(
            tuple(
                Bucket(
                    b.start,
                    b.stop,
                    b.sequences,
                    b.longest,
                    None if b.padded_index is None else b.padded_index.to(device),
                )
                for b in self.buckets
            ),
            self.tokens,
        )


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    packed_layout: PackedLayout | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Queries (1, A, T, D), keys and values (1, A_kv, T, D) to (1, T, A, D). Called by the model's own layers.

    Raises ValueError when the model did not hand the layout down, or asks for what this attention lacks.
    """
    if packed_layout is None or attention_mask is not None:
        raise ValueError("packed attention needs the layout of the batch and no mask")
    if any(others.get(name) is not None for name in ("softcap", "s_aux", "position_bias")):
        raise ValueError("packed attention has no soft caps, sinks or biases")
    flat = [states[0].transpose(0, 1).flatten(1) for states in (query, key, value)]
    heads = [states.shape[1] for states in (query, key, value)]
    parts = [
        _attend_bucket(
            [states[bucket.start : bucket.stop] for states in flat], heads, bucket, dropout, scaling, sliding_window
        )
        for bucket in packed_layout.buckets
    ]
    attended = parts[0] if len(parts) == 1 else torch.cat(parts)
    return attended.view(1, packed_layout.tokens, heads[0], -1), None


def _attend_bucket(
    flat: list[torch.Tensor],
    heads: list[int],
    bucket: Bucket,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """Queries, keys and values (T, A * D) of one bucket to (T, A * D)."""
    query, key, value = (_spread(states, count, bucket) for states, count in zip(flat, heads, strict=True))
    if heads[1] != heads[0]:
        key, value = (states.repeat_interleave(heads[0] // heads[1], dim=1) for states in (key, value))
    mask = None
    if window is not None and bucket.longest > window:
        ones = torch.ones(bucket.longest, bucket.longest, dtype=torch.bool, device=query.device)
        mask = ones.tril() & ones.triu(1 - window)
    attended = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, dropout_p=dropout, scale=scaling
    )
    rows = attended.transpose(1, 2).flatten(2).flatten(0, 1)
    return rows if bucket.padded_index is None else pick(rows, bucket.padded_index)


def _spread(states: torch.Tensor, heads: int, bucket: Bucket) -> torch.Tensor:
    """(T, A * D) to (B, A, L, D) with zeros where there is no token."""
    if bucket.padded_index is not None:
        rows = bucket.sequences * bucket.longest
        states = states.new_zeros(rows, states.shape[1]).index_copy(0, bucket.padded_index, states)
    return states.view(bucket.sequences, bucket.longest, heads, -1).transpose(1, 2)


AttentionInterface.register(PACKED, attend)
