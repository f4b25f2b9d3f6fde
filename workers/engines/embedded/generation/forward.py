"""How a model is run: many answers as the rows of one step, or each by itself where the model allows no other way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from scheduling.estimates.serving import PROMPT_TOKENS_PER_STEP
from workers.engines.embedded.generation.keys_values import KeysValues
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.embedded.generation.lora import Lora, LoraLayers

#: Tokens of a prompt that are read at once when each needs its logits: 40 MB of them with a vocabulary of 150,000.
SCORED_TOKENS_PER_STEP = 64


class Forward(Protocol):
    """The forward pass of one model. `cache`: what `begin` gave; one failed pass leaves it as it was."""

    #: Answers of one step, at most.
    rows: int
    #: Whether keys and values can be kept for other prompts: caches are `KeysValues`.
    keeps_prefixes: bool
    #: What the adapters of answers are added to.
    layers: LoraLayers

    def piece(self, *, scored: bool) -> int:
        """Tokens of a prompt that are read in one pass."""

    def begin(self, tokens: int, adapter: Lora | None = None) -> Any:
        """The cache of an answer of this adapter that will have so many tokens, prompt included, at most."""

    def read(self, cache: Any, tokens: Sequence[int], *, scored: bool, last: bool) -> torch.Tensor:
        """Reads tokens of a prompt: logits behind each (tokens, vocabulary) if `scored`, behind the last one
        (1, vocabulary) if these are the `last` of the prompt; else they may be empty."""

    def write(self, caches: Sequence[Any], tokens: Sequence[int]) -> torch.Tensor:
        """The token that each of up to `rows` answers has got: logits behind them, (answers, vocabulary)."""


class InTurn:
    """Each answer with a cache of the library's own: for any model that it generates with."""

    rows = 1
    keeps_prefixes = False

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.layers = LoraLayers(model.model)

    def piece(self, *, scored: bool) -> int:
        return SCORED_TOKENS_PER_STEP if scored else PROMPT_TOKENS_PER_STEP

    def begin(self, tokens: int, adapter: Lora | None = None) -> _OwnCache:
        return _OwnCache(adapter)

    def read(self, cache: _OwnCache, tokens: Sequence[int], *, scored: bool, last: bool) -> torch.Tensor:
        options = {} if scored or not self._model.keeps_last_logits else {"logits_to_keep": 1}
        with torch.inference_mode(), self.layers.of_rows([cache.adapter]):
            output = self._model.model(
                input_ids=torch.tensor([list(tokens)], device=self._model.device),
                past_key_values=cache.held,
                use_cache=True,
                **options,
            )
        cache.held = output.past_key_values
        cache.length += len(tokens)
        logits: torch.Tensor = output.logits[0]
        return logits

    def write(self, caches: Sequence[_OwnCache], tokens: Sequence[int]) -> torch.Tensor:
        return self.read(caches[0], tokens, scored=False, last=True)[-1:]


class _OwnCache:
    """A place for the library's cache, which makes it at the first pass."""

    held: Any = None
    length = 0

    def __init__(self, adapter: Lora | None) -> None:
        self.adapter = adapter


def lengths(caches: Sequence[KeysValues | _OwnCache]) -> int:
    """Tokens whose keys and values are there."""
    return sum(cache.length for cache in caches)
