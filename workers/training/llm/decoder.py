"""The forward pass of a causal language model over sequences of a batch: hidden states of the real tokens, no logits.

`packed` runs them end to end (`packed_attention`); `padded` is the model's own way, for architectures that carry a
state from token to token or attend in a way of their own. Which one serves is found out by trying.

Notation: T tokens, B sequences, L tokens of the longest, H hidden size.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from workers.local_models.devices import autocast
from workers.training.llm.lm_head import Head
from workers.training.llm.packed_attention import PACKED
from workers.training.llm.sequences import SequenceBatch, batch_of, sequences_of
from workers.training.world import ALONE, World

_log = logging.getLogger(__name__)

Variant = Literal["packed", "padded", "flash"]

#: The largest difference to the model's own hidden states, as a share of the largest of them, that is rounding.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 2e-2}
#: Lengths of the sequences that the trial lays end to end.
_TRIAL_LENGTHS = (3, 5, 5, 11)


@dataclass(frozen=True)
class Decoder:
    """A causal language model, wrapped by an adapter or not, and how it is run."""

    #: The whole model: what trains and is saved.
    model: nn.Module
    variant: Variant
    pad_id: int = 0
    #: NEFTune (arXiv:2310.05914): noise on the embeddings while training, alpha / sqrt(length * H) at most.
    neftune_alpha: float | None = None
    #: Products in bf16 on GPUs that have them.
    half: bool = True
    #: The processes that hold the model together: it is run through `world.run` and `world.add_gradients`.
    world: World = ALONE

    @property
    def inner(self) -> PreTrainedModel:
        """The library's model, its layers changed in place where there is an adapter."""
        return inner_of(self.model)

    @property
    def head(self) -> Head:
        """The LM head of the model as it is now."""
        return head_of(self.inner)

    def hidden(self, batch: SequenceBatch) -> torch.Tensor:
        """States (T, H) from which the head predicts each next token."""
        device = self.inner.get_input_embeddings().weight.device
        with autocast(device) if self.half else nullcontext():
            if self.variant == "padded":
                return self._padded(batch)
            inputs = self._inputs(batch.ids[None], batch.lengths[None])
            output = self.inner.get_decoder()(
                **inputs, position_ids=batch.positions[None], use_cache=False, **self._boundaries(batch)
            )
            return cast(torch.Tensor, output.last_hidden_state[0])

    def _boundaries(self, batch: SequenceBatch) -> dict[str, Any]:
        if self.variant == "packed":
            return {"packed_layout": batch.layout}
        ends, longest = batch.boundaries, batch.longest
        return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}

    def _padded(self, batch: SequenceBatch) -> torch.Tensor:
        index = batch.rows * batch.longest + batch.positions
        size = len(batch.order) * batch.longest

        def spread(values: torch.Tensor, filling: int) -> torch.Tensor:
            grid = torch.full((size,), filling, dtype=values.dtype, device=values.device)
            return grid.index_copy(0, index, values).view(len(batch.order), batch.longest)

        inputs = self._inputs(spread(batch.ids, self.pad_id), spread(batch.lengths, 1))
        mask = spread(torch.ones_like(batch.ids), 0)
        output = self.inner.get_decoder()(**inputs, attention_mask=mask, use_cache=False)
        return cast(torch.Tensor, output.last_hidden_state.flatten(0, 1).index_select(0, index))

    def _inputs(self, ids: torch.Tensor, lengths: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.neftune_alpha is None or not self.model.training:
            return {"input_ids": ids}
        embedded = self.inner.get_input_embeddings()(ids)
        reach = self.neftune_alpha / torch.sqrt(lengths.to(embedded.dtype) * embedded.shape[-1])
        return {"inputs_embeds": embedded + torch.empty_like(embedded).uniform_(-1, 1) * reach[..., None]}


def inner_of(model: nn.Module) -> PreTrainedModel:
    """The library's model below an adapter's wrapper, or the model itself."""
    return cast(PreTrainedModel, model.get_base_model() if hasattr(model, "get_base_model") else model)


def head_of(model: PreTrainedModel) -> Head:
    """The LM head, with what the architecture does to logits."""
    layer: Any = model.get_output_embeddings()
    config = model.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    return Head(layer.weight, getattr(layer, "bias", None), scale, getattr(config, "final_logit_softcapping", None))


def decoder_of(
    model: nn.Module,
    *,
    pad_id: int,
    packing: bool,
    flash: bool = False,
    neftune_alpha: float | None = None,
    half: bool = True,
) -> Decoder:
    """Chooses the forward pass by running the candidates on a few tokens. `flash`: FlashAttention, on GPUs.

    Raises ValueError when not even the model's own forward pass gives the logits that its head should.
    """
    inner, training = inner_of(model), model.training
    model.train(False)
    plain = Decoder(model, "padded", pad_id, half=half)
    inner.set_attn_implementation(_implementation("padded"))
    expected = _trial(plain)
    _check_head(plain)
    wanted: Variant = "flash" if flash else "packed" if packing else "padded"
    if wanted != "padded" and not _agrees(plain, wanted, expected):
        _log.warning("this architecture can't be packed; its sequences are padded instead")
        wanted = "padded"
    inner.set_attn_implementation(_implementation(wanted))
    model.train(training)
    return Decoder(model, wanted, pad_id, neftune_alpha, half)


@contextmanager
def own_attention(decoder: Decoder) -> Iterator[None]:
    """For a while the model runs as the library means it to, as generation needs."""
    decoder.inner.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        decoder.inner.set_attn_implementation(_implementation(decoder.variant))


def _implementation(variant: Variant) -> str:
    return {"packed": PACKED, "padded": "sdpa", "flash": "flash_attention_2"}[variant]


def _agrees(plain: Decoder, variant: Variant, expected: torch.Tensor) -> bool:
    plain.inner.set_attn_implementation(_implementation(variant))
    try:
        found = _trial(replace(plain, variant=variant))
    except (TypeError, ValueError, RuntimeError) as error:
        _log.info("packing: %s", error)
        return False
    tolerance = _TOLERANCE.get(expected.dtype, 5e-2) * float(expected.abs().max())
    return bool((found - expected).abs().max() <= tolerance)


def _trial_batch(decoder: Decoder) -> SequenceBatch:
    embeddings = decoder.inner.get_input_embeddings()
    vocabulary = embeddings.weight.shape[0]
    parts = [([(7 * i + 3 * n + 1) % vocabulary for i in range(n)], [True] * n) for n in _TRIAL_LENGTHS]
    sequences = sequences_of(parts)
    return batch_of(sequences, torch.arange(len(sequences)).numpy()).to(embeddings.weight.device)


def _trial(decoder: Decoder) -> torch.Tensor:
    with torch.inference_mode():
        return decoder.hidden(_trial_batch(decoder))


def _check_head(plain: Decoder) -> None:
    """The head as we apply it must give the logits of the model's own forward pass."""
    device = plain.inner.get_input_embeddings().weight.device
    with torch.inference_mode(), autocast(device) if plain.half else nullcontext():
        ids = _trial_batch(plain).ids[None, : _TRIAL_LENGTHS[0]]
        expected = plain.inner(input_ids=ids, use_cache=False).logits[0].float()
        hidden = plain.inner.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0]
        found = plain.head.logits(hidden)
    tolerance = _TOLERANCE.get(hidden.dtype, 5e-2) * max(1.0, float(expected.abs().max()))
    if expected.shape != found.shape or float((expected - found).abs().max()) > tolerance:
        raise ValueError("its LM head is of a kind that is not supported")
