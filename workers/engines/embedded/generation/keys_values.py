"""Keys and values of answers that grow together, and attention over them: of each answer by itself.

Everything but attention runs on all rows of a step at once, in the model's own code. Attention gets the step as an
argument (`step`), writes the new keys and values into the caches of the rows and looks at each cache alone, in its own
length: nothing is padded, so what a row sees is the same whatever its neighbours are. It is registered with the
library's attention interface.

Notation: L layers, A heads, K key-value heads, D size of a head, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from workers.engines.embedded.generation.lora import Lora

#: The name under which the models find `attend`.
CACHED = "eigenwerk_cached"


class CacheShape(NamedTuple):
    """Of the keys of one token: as many values as keys."""

    layers: int
    heads: int
    size: int


@dataclass(eq=False)
class KeysValues:
    """Of one answer; `data`: (L, 2, K, capacity, D), of which `length` tokens are there.

    On the CPU the memory of the others is not taken before it is written.
    """

    data: torch.Tensor
    length: int = 0
    #: The position of the first token.
    offset: int = 0
    #: Whose they are: the layers of the answer have its changes.
    adapter: Lora | None = None

    @classmethod
    def empty(cls, shape: CacheShape, tokens: int, like: torch.Tensor, adapter: Lora | None) -> KeysValues:
        """Of the type of `like`, and where it is."""
        return cls(like.new_empty(shape.layers, 2, shape.heads, tokens, shape.size), adapter=adapter)

    def copy_of(self, start: int, stop: int) -> torch.Tensor:
        """(L, 2, K, stop - start, D)."""
        return self.data[:, :, :, start:stop].clone()

    def append(self, kept: torch.Tensor) -> None:
        """What `copy_of` gave, behind what is there."""
        tokens = kept.shape[3]
        self.data[:, :, :, self.length : self.length + tokens] = kept
        self.length += tokens


class CachedStep(Protocol):
    """One forward pass: whose tokens they are."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """Queries (B, A, T, D), keys and values (B, K, T, D) to (B, T, A, D)."""


class WritingStep:
    """A token of each of some answers; rows behind them are nobody's."""

    def __init__(self, caches: Sequence[KeysValues]) -> None:
        self._caches = caches
        # Views are taken for all layers at once: one by one they take as long as the arithmetic.
        self._places = [cache.data[:, :, :, cache.length].unbind(0) for cache in caches]
        self._seen: dict[int | None, list[list[tuple[torch.Tensor, ...]]]] = {}

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        rows, heads, _, size = query.shape
        new = torch.stack((key, value), 1)[:, :, :, 0].unbind(0)
        # Heads that share keys stand together, as if they were tokens. Without them (enable_gqa) it takes 1.5 times as
        # long.
        grouped = query.reshape(rows, 1, key.shape[1], heads // key.shape[1], size).unbind(0)
        attended = []
        for row, (keys, values) in enumerate(self._views(window)):
            self._places[row][layer].copy_(new[row])
            attended.append(
                functional.scaled_dot_product_attention(grouped[row], keys[layer], values[layer], scale=scale)
            )
        attended += [torch.zeros_like(grouped[0])] * (rows - len(attended))
        return torch.cat(attended).view(rows, 1, heads, size)

    def _views(self, window: int | None) -> list[list[tuple[torch.Tensor, ...]]]:
        """Of each answer: keys and values (1, K, T, D) of each layer, with the new token, which is written later."""
        if window not in self._seen:
            self._seen[window] = [
                [part.unsqueeze(1).unbind(0) for part in _looked_at(cache, window).unbind(1)] for cache in self._caches
            ]
        return self._seen[window]


def _looked_at(cache: KeysValues, window: int | None) -> torch.Tensor:
    """(L, 2, K, T, D) of the tokens that the next one looks at, itself included."""
    stop = cache.length + 1
    return cache.data[:, :, :, 0 if window is None else max(0, stop - window) : stop]


class ReadingStep:
    """Tokens of one prompt, and padding behind them, which no token sees."""

    def __init__(self, cache: KeysValues, tokens: int) -> None:
        self._cache = cache
        self._stop = cache.length + tokens
        self._masks: dict[int | None, torch.Tensor] = {}

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        keys, values = self._cache.data[layer]
        start, stop = self._cache.length, self._stop
        keys[:, start:stop], values[:, start:stop] = key[0], value[0]
        attended = functional.scaled_dot_product_attention(
            query, keys[None, :, :stop], values[None, :, :stop], self._mask(window), scale=scale, enable_gqa=True
        )
        return attended.transpose(1, 2)

    def _mask(self, window: int | None) -> torch.Tensor:
        """(T, all that was read and T): true where a token looks."""
        if window not in self._masks:
            start, stop = self._cache.length, self._stop
            ones = torch.ones(stop - start, stop, dtype=torch.bool, device=self._cache.data.device)
            mask = ones.tril(start)
            self._masks[window] = mask if window is None else mask & ones.triu(start + 1 - window)
        return self._masks[window]


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    step: CachedStep | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Called by the model's own layers; without a step it is the library's attention.

    With one, the mask says nothing new: none was given to the model, so it is causal, within a window if there is one.
    Raises ValueError when the model asks for what this attention lacks.
    """
    if step is None:
        attended, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, sliding_window=sliding_window, **others
        )
        return attended, None
    if any(others.get(name) is not None for name in ("softcap", "s_aux", "position_bias")):
        raise ValueError("attention over kept keys and values has no soft caps, sinks or biases")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer: Any = module.layer_idx
    return step.attend(int(layer), query, key, value, scale, sliding_window), None


AttentionInterface.register(CACHED, attend)
AttentionMaskInterface.register(CACHED, sdpa_mask)
