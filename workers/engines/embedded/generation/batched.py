"""Answers as the rows of one step, of a shape that never changes: so what a row gives never depends on the others.

A product of eight rows takes about twice the time of one row, because the weights are what is read. How a product of
matrices is rounded depends on its shape, so a step always has eight rows, whoever they are; a prompt is read in pieces
that begin and end at the same places in every prompt, the last one padded to a multiple of eight. Attention alone looks
at each answer by itself (`keys_values`).

Whether a model can be run like this is found out by trying: its logits must be those of the library's own way, up to
rounding, and those of a row must be the same bit for bit in every place of a step and beside any neighbours. What fails
(a state in place of keys, attention with sinks or soft caps, experts whose products depend on who else comes, positions
that are scaled by the longest text) runs answer by answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from workers.engines.embedded.generation.forward import Forward, InTurn
from workers.engines.embedded.generation.keys_values import (
    CACHED,
    CachedStep,
    CacheShape,
    KeysValues,
    ReadingStep,
    WritingStep,
)
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.local_models import linear

_log = logging.getLogger(__name__)

#: Answers of one step. Measured with SmolLM2-135M on one core of a Zen 3, ms of processor time for all products: 36 for
#: a row as it comes, 65 for 8, 90 for 16.
ROWS = 8
#: Tokens of a prompt that are read at once: 64 take 3.3 ms each, 512 take 2.5, 8 take 8. What is shared is found in
#: whole pieces.
PIECE_TOKENS = 64
#: The largest difference to the model's own logits, as a share of the largest of them, that is rounding.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 2e-2}
#: Tokens of the trial: read, and written behind them.
_TRIAL_READ, _TRIAL_WRITTEN = 11, 2


class Unbatchable(Exception):
    """The model gives other results in this way; the text says how that was found."""


class Batched:
    """The forward pass of a model whose rows do not depend on each other. Made by `forward_of`."""

    rows = ROWS
    keeps_prefixes = True

    def __init__(self, model: LanguageModel, shape: CacheShape) -> None:
        self._model, self._shape = model, shape

    def piece(self, *, scored: bool) -> int:
        return PIECE_TOKENS

    def begin(self, tokens: int) -> KeysValues:
        return KeysValues.empty(self._shape, _padded(tokens), self._model.model.dtype, self._model.device)

    def read(self, cache: KeysValues, tokens: Sequence[int], *, scored: bool, last: bool) -> torch.Tensor:
        size = _padded(len(tokens))
        ids = torch.zeros(1, size, dtype=torch.long)
        ids[0, : len(tokens)] = torch.tensor(tokens)
        positions = (torch.arange(size) + cache.offset + cache.length).clamp(max=self._model.context_tokens - 1)
        wanted = torch.arange(size) if scored else torch.tensor([len(tokens) - 1]) if last else None
        logits = self._run(ids, positions[None], ReadingStep(cache, size), wanted)
        cache.length += len(tokens)
        return logits[0, : len(tokens)]

    def write(self, caches: Sequence[KeysValues], tokens: Sequence[int]) -> torch.Tensor:
        ids, positions = torch.zeros(2, ROWS, 1, dtype=torch.long)
        ids[: len(tokens), 0] = torch.tensor(tokens)
        positions[: len(tokens), 0] = torch.tensor([cache.offset + cache.length for cache in caches])
        logits = self._run(ids, positions, WritingStep(caches), torch.tensor([0]))
        for cache in caches:
            cache.length += 1
        return logits[: len(tokens), 0]

    def _run(
        self, ids: torch.Tensor, positions: torch.Tensor, step: CachedStep, wanted: torch.Tensor | None
    ) -> torch.Tensor:
        """Logits (rows, wanted, vocabulary) behind the `wanted` tokens of each row; none: (1, 0)."""
        device = self._model.device
        inputs: dict[str, Any] = {"input_ids": ids.to(device), "position_ids": positions.to(device), "step": step}
        with torch.inference_mode():
            if wanted is None:
                self._model.model.get_decoder()(**inputs, use_cache=False)
                return torch.empty(1, 0)
            output = self._model.model(**inputs, use_cache=False, logits_to_keep=wanted.to(device))
        logits: torch.Tensor = output.logits
        return logits


def forward_of(model: LanguageModel) -> Forward:
    """The quickest way in which the model's answers depend on nothing but their own prompts and seeds."""
    own = str(model.model.config._attn_implementation)  # noqa: SLF001  (the library has no other way to ask)
    try:
        if not model.keeps_last_logits:
            raise Unbatchable("the model has no logits_to_keep")
        expected = _own_logits(model)
        model.model.set_attn_implementation(CACHED)
        batched = Batched(model, _cache_shape(model))
        _check_logits(batched, model, expected)
        linear.pack_in(model.model, ROWS)
        _check_logits(batched, model, expected)
        _check_rows(batched, model)
    except (Unbatchable, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        _log.warning("answers of this architecture are generated in turn: %s", error)
        model.model.set_attn_implementation(own)
        return InTurn(model)
    return batched


def _padded(tokens: int) -> int:
    return -(-tokens // ROWS) * ROWS


def _trial_tokens(model: LanguageModel, count: int, seed: int) -> list[int]:
    return [(7 * place + 13 * seed + 1) % model.vocabulary_size for place in range(count)]


def _own_logits(model: LanguageModel) -> torch.Tensor:
    """(tokens, vocabulary) of the trial in the model's own way."""
    tokens = _trial_tokens(model, _TRIAL_READ + _TRIAL_WRITTEN, 0)
    with torch.inference_mode():
        logits: torch.Tensor = model.model(input_ids=torch.tensor([tokens], device=model.device)).logits[0]
    return logits


class _ShapeStep:
    """Sees the shapes of keys and values, and how far each layer looks back."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[int, int]] = {}
        self.windowed: set[int] = set()

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        if key.shape != value.shape:
            raise Unbatchable("keys and values differ in size")
        self.seen[layer] = key.shape[1], key.shape[3]
        if window is not None:
            self.windowed.add(layer)
        return torch.zeros_like(query).transpose(1, 2)


def _cache_shape(model: LanguageModel) -> CacheShape:
    step = _ShapeStep()
    ids = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    with torch.inference_mode():
        model.model(input_ids=ids, position_ids=ids, use_cache=False, step=step)
    layers, shapes = sorted(step.seen), set(step.seen.values())
    if len(shapes) != 1 or layers != list(range(len(layers))):
        raise Unbatchable("its layers keep different things")
    if step.windowed != _windowed(model, len(layers)):
        raise Unbatchable("its layers look at other tokens than they tell")
    heads, size = shapes.pop()
    return CacheShape(len(layers), heads, size)


def _windowed(model: LanguageModel, layers: int) -> set[int]:
    """The layers that see a window of tokens only, as the configuration says; the trial is shorter than any window."""
    config = model.model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return set(range(layers)) if getattr(config, "sliding_window", None) is not None else set()
    if not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise Unbatchable(f"it has layers of the kinds {', '.join(sorted(set(kinds)))}")
    return {layer for layer, kind in enumerate(kinds) if kind == "sliding_attention"}


def _begun(batched: Batched, model: LanguageModel, seed: int, offset: int = 0) -> KeysValues:
    cache = batched.begin(_TRIAL_READ + _TRIAL_WRITTEN)
    cache.offset = offset
    batched.read(cache, _trial_tokens(model, _TRIAL_READ, seed), scored=False, last=False)
    return cache


def _check_logits(batched: Batched, model: LanguageModel, expected: torch.Tensor) -> None:
    tokens = _trial_tokens(model, _TRIAL_READ + _TRIAL_WRITTEN, 0)
    cache = batched.begin(len(tokens))
    parts = [batched.read(cache, tokens[:_TRIAL_READ], scored=True, last=True)]
    parts += [batched.write([cache], [token]) for token in tokens[_TRIAL_READ:]]
    tolerance = _TOLERANCE.get(expected.dtype, 5e-2) * float(expected.abs().max())
    if not float((torch.cat(parts) - expected).abs().max()) <= tolerance:
        raise Unbatchable("its logits differ from those of the library's own way")


def _check_rows(batched: Batched, model: LanguageModel) -> None:
    """One row in every place, alone, among its like, and beside others at the end of the context."""
    far = model.context_tokens - _TRIAL_READ - _TRIAL_WRITTEN
    tokens = _trial_tokens(model, ROWS + 1, 5)
    ours, *others = _begun(batched, model, 0), _begun(batched, model, 1, far), _begun(batched, model, 2, far)
    alone = batched.write([_copy(ours)], tokens[:1])
    rows = [batched.write([_copy(ours) for _ in range(ROWS)], tokens[:1] * ROWS)]
    for parity in (0, 1):
        is_ours = [row % 2 == parity for row in range(ROWS)]
        caches = [_copy(ours if one else others[row // 2 % 2]) for row, one in enumerate(is_ours)]
        written = batched.write(caches, [tokens[0] if one else tokens[row + 1] for row, one in enumerate(is_ours)])
        rows.append(written[torch.tensor(is_ours, device=written.device)])
    if not all(torch.equal(row, alone[0]) for row in torch.cat(rows)):
        raise Unbatchable("a row's logits depend on its place or its neighbours")


def _copy(cache: KeysValues) -> KeysValues:
    return replace(cache, data=cache.data.clone())
