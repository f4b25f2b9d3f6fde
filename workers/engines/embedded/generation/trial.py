"""Whether a model's answers can be rows of one step, which is found out by trying.

Its logits must be those of the library's own way, up to rounding, and those of a row must be the same bit for bit in
every place of a step and beside any neighbours. What fails (a state in place of keys, attention with sinks or soft
caps, experts whose products depend on who else comes, positions that are scaled by the longest text) runs answer by
answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from workers.engines.embedded.generation.batched import ROWS, Batched
from workers.engines.embedded.generation.forward import Forward, InTurn
from workers.engines.embedded.generation.keys_values import CACHED, CacheShape, KeysValues
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.local_models import linear

_log = logging.getLogger(__name__)

#: Steps of fewer rows, taken for fewer answers where they give the same bits.
_SMALLER_STEPS = (1, 2, 4)
#: The largest difference to the model's own logits, as a share of the largest of them, that is rounding.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 2e-2}
#: Tokens of the trial: read, and written behind them.
_TRIAL_READ, _TRIAL_WRITTEN = 11, 2
#: PyTorch computes a function like silu for so many fp32 numbers at once on AVX-512, half as many on AVX2. What is left
#: over at the end goes through the C library, whose last bit is sometimes another one.
_LANES = 32
#: Beyond so many numbers PyTorch divides them among threads.
_UNDIVIDED = 32_768


class Unbatchable(Exception):
    """The model gives other results in this way; the text says how that was found."""


def forward_of(model: LanguageModel) -> Forward:
    """The quickest way in which the model's answers depend on nothing but their own prompts and seeds."""
    own = str(model.model.config._attn_implementation)  # noqa: SLF001  (the library has no other way to ask)
    try:
        if not model.keeps_last_logits:
            raise Unbatchable("the model has no logits_to_keep")
        expected = _own_logits(model)
        model.model.set_attn_implementation(CACHED)
        with _widths_seen(model) as widths:
            shape = _cache_shape(model)
        batched = Batched(model, shape)
        _check_logits(batched, model, expected)
        linear.pack_in(model.model, ROWS)
        _check_logits(batched, model, expected)
        batched.steps = equal_steps(batched, model, widths)
    except (Unbatchable, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        _log.warning("answers of this architecture are generated in turn: %s", error)
        model.model.set_attn_implementation(own)
        return InTurn(model)
    return batched


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


@contextmanager
def _widths_seen(model: LanguageModel) -> Iterator[set[int]]:
    """Sizes of what the model's parts give meanwhile, for one token; logits are only multiplied and added."""
    widths: set[int] = set()

    def see(module: nn.Module, inputs: Any, output: Any) -> None:
        parts = output if isinstance(output, tuple) else (output,)
        widths.update(part.shape[-1] for part in parts if isinstance(part, torch.Tensor) and part.is_floating_point())

    head = model.model.get_output_embeddings()
    hooks = [module.register_forward_hook(see) for module in model.model.modules() if module is not head]
    try:
        yield widths
    finally:
        for hook in hooks:
            hook.remove()


def _even(numbers: int) -> bool:
    """Whether each of so many numbers is computed in the same way."""
    threads = min(torch.get_num_threads(), -(-numbers // _UNDIVIDED))
    return numbers % _LANES == 0 and -(-numbers // threads) % _LANES == 0


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


def equal_steps(batched: Batched, model: LanguageModel, widths: set[int]) -> tuple[int, ...]:
    """The numbers of rows at which a row comes out the same, bit for bit, in every place, alone, among its like, and
    beside others at the end of the context. Raises Unbatchable when even `ROWS` rows depend on each other.

    `widths`: of what is computed, for one token. Whether it divides evenly is not left to the trial: with a rest that
    is computed otherwise only one number in some hundreds differs.
    """
    far = model.context_tokens - _TRIAL_READ - _TRIAL_WRITTEN
    tokens = _trial_tokens(model, ROWS + 1, 5)
    ours, *others = _begun(batched, model, 0), _begun(batched, model, 1, far), _begun(batched, model, 2, far)
    alone = batched.write([_copy(ours)], tokens[:1])[0]

    def equal(size: int) -> bool:
        if model.device.type == "cpu" and not all(_even(size * width) for width in widths):
            return False
        batched.steps = (size,)
        rows = [batched.write([_copy(ours) for _ in range(size)], tokens[:1] * size)]
        for parity in range(min(size, 2)):
            is_ours = [row % 2 == parity for row in range(size)]
            caches = [_copy(ours if one else others[row // 2 % 2]) for row, one in enumerate(is_ours)]
            written = batched.write(caches, [tokens[0] if one else tokens[row + 1] for row, one in enumerate(is_ours)])
            rows.append(written[torch.tensor(is_ours, device=written.device)])
        return all(torch.equal(row, alone) for row in torch.cat(rows))

    if not equal(ROWS):
        raise Unbatchable("a row's logits depend on its place or its neighbours")
    return (*filter(equal, _SMALLER_STEPS), ROWS)


def _copy(cache: KeysValues) -> KeysValues:
    return replace(cache, data=cache.data.clone())
