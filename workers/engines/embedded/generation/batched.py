"""Answers as the rows of one step, of shapes that give the same bits: so what a row gives never depends on the others.

A product of eight rows takes less than twice the time of one row, because the weights are what is read. How a product
of matrices is rounded may depend on its shape, so a step has eight rows, whoever they are, or fewer where that gives
the same (`trial`); a prompt is read in pieces that begin and end at the same places in every prompt, the last one
padded to a multiple of eight. Attention alone looks at each answer by itself (`keys_values`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from workers.engines.embedded.generation.keys_values import (
    CachedStep,
    CacheShape,
    KeysValues,
    ReadingStep,
    WritingStep,
)
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.embedded.generation.lora import Lora, LoraLayers

#: Answers of one step. Measured with SmolLM2-135M on one core of a Zen 3, ms of processor time for all products: 36 for
#: a row, 48 for 4, 60 for 8, 90 for 16.
ROWS = 8
#: Tokens of a prompt that are read at once: 64 take 3.3 ms each, 512 take 2.5, 8 take 8. What is shared is found in
#: whole pieces.
PIECE_TOKENS = 64


class Batched:
    """The forward pass of a model whose rows do not depend on each other. `trial.forward_of` makes it."""

    rows = ROWS
    keeps_prefixes = True

    def __init__(self, model: LanguageModel, shape: CacheShape) -> None:
        self._model, self._shape = model, shape
        self.layers = LoraLayers(model.model)
        #: Rows that a step may have, ascending: those that give the same bits. `trial.equal_steps` finds them.
        self.steps: tuple[int, ...] = (ROWS,)

    def piece(self, *, scored: bool) -> int:
        return PIECE_TOKENS

    def begin(self, tokens: int, adapter: Lora | None = None) -> KeysValues:
        return KeysValues.empty(self._shape, _padded(tokens), self._model.example, adapter)

    def read(self, cache: KeysValues, tokens: Sequence[int], *, scored: bool, last: bool) -> torch.Tensor:
        size = _padded(len(tokens))
        ids = torch.zeros(1, size, dtype=torch.long)
        ids[0, : len(tokens)] = torch.tensor(tokens)
        positions = (torch.arange(size) + cache.offset + cache.length).clamp(max=self._model.context_tokens - 1)
        wanted = torch.arange(size) if scored else torch.tensor([len(tokens) - 1]) if last else None
        logits = self._run(ids, positions[None], ReadingStep(cache, size), [cache], wanted)
        cache.length += len(tokens)
        return logits[0, : len(tokens)]

    def write(self, caches: Sequence[KeysValues], tokens: Sequence[int]) -> torch.Tensor:
        size = next(size for size in self.steps if size >= len(tokens))
        ids, positions = torch.zeros(2, size, 1, dtype=torch.long)
        ids[: len(tokens), 0] = torch.tensor(tokens)
        positions[: len(tokens), 0] = torch.tensor([cache.offset + cache.length for cache in caches])
        logits = self._run(ids, positions, WritingStep(caches), caches, torch.tensor([0]))
        for cache in caches:
            cache.length += 1
        return logits[: len(tokens), 0]

    def _run(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        step: CachedStep,
        caches: Sequence[KeysValues],
        wanted: torch.Tensor | None,
    ) -> torch.Tensor:
        """Logits (rows, wanted, vocabulary) behind the `wanted` tokens of each row; none: (1, 0)."""
        device = self._model.device
        inputs: dict[str, Any] = {"input_ids": ids.to(device), "position_ids": positions.to(device), "step": step}
        with torch.inference_mode(), self.layers.of_rows([cache.adapter for cache in caches]):
            if wanted is None:
                self._model.model.get_decoder()(**inputs, use_cache=False)
                return torch.empty(1, 0)
            output = self._model.model(**inputs, use_cache=False, logits_to_keep=wanted.to(device))
        logits: torch.Tensor = output.logits
        return logits


def _padded(tokens: int) -> int:
    return -(-tokens // ROWS) * ROWS
