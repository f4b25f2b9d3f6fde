"""Attention of each text to itself, for texts that lie one behind the other without padding.

Notation: B texts, T tokens, L tokens of the longest text, H hidden size.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from workers.local_models.row_moves import pad, pick
from workers.local_models.tokens import TokenBatch


class TextAttention(Protocol):
    """The attention within each text of one batch."""

    def __call__(self, attention: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Keys and values (T, H) of all tokens; queries and result (T, H), or (B, H) of one token of each text.

        `attention`: the library's module, for its heads, scale and dropout.
        """


def attention_within(batch: TokenBatch) -> TextAttention:
    """In runs where a CPU only answers; padded for gradients, and for GPUs, which want few large calls."""
    runs = torch.is_inference_mode_enabled() and batch.ids.device.type == "cpu"
    return _InRuns(batch) if runs else _Padded(batch)


class _Padded:
    """Queries, keys and values are spread to (B, L)."""

    def __init__(self, batch: TokenBatch) -> None:
        self._batch, self._rows = batch, batch.mask.numel()
        #: None where no text is shorter.
        self._mask = None if bool(batch.mask.all()) else batch.mask[:, None, None, :]

    def __call__(self, attention: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        index, texts = self._batch.padded_index, self._batch.texts
        everywhere = len(query) == len(index)
        if everywhere:
            query = pad(query, index, self._rows)
        attended = functional.scaled_dot_product_attention(
            _heads(attention, query, texts),
            _heads(attention, pad(key, index, self._rows), texts),
            _heads(attention, pad(value, index, self._rows), texts),
            attn_mask=self._mask,
            dropout_p=attention.dropout.p if attention.training else 0.0,
            scale=attention.scaling,
        )
        attended = attended.transpose(1, 2).reshape(query.shape)
        return pick(attended, index) if everywhere else attended


class _InRuns:
    """Neighbours of equal length are one call: nothing is padded, masked or copied. Texts should be sorted by length.

    MiniLM, 64 pairs of 40 tokens on a Zen 3: 8 ms for each layer instead of 33.
    """

    def __init__(self, batch: TokenBatch) -> None:
        lengths = batch.lengths.numpy()
        firsts = np.flatnonzero(np.diff(lengths, prepend=-1))
        #: The run's first text and token, how many texts it has, and of how many tokens each.
        self._runs = [
            (int(first), int(batch.starts[first]), int(after - first), int(lengths[first]))
            for first, after in zip(firsts, [*firsts[1:], len(lengths)], strict=True)
        ]

    def __call__(self, attention: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        result = torch.empty_like(query)
        everywhere = len(query) == len(key)
        for text, token, texts, length in self._runs:
            tokens = slice(token, token + texts * length)
            asking = tokens if everywhere else slice(text, text + texts)
            attended = functional.scaled_dot_product_attention(
                _heads(attention, query[asking], texts),
                _heads(attention, key[tokens], texts),
                _heads(attention, value[tokens], texts),
                scale=attention.scaling,
            )
            _heads(attention, result[asking], texts).copy_(attended)
        return result


def _heads(attention: Any, flat: torch.Tensor, texts: int) -> torch.Tensor:
    """(texts * tokens, H) as (texts, heads, tokens, size)."""
    return flat.view(texts, -1, attention.num_attention_heads, attention.attention_head_size).transpose(1, 2)
