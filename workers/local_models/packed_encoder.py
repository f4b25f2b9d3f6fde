"""The forward pass of encoders, without the arithmetic that padding costs where the architecture allows it.

For BERT and its kin (RoBERTa, XLM-R, CamemBERT) all linear layers and layer norms run on the T real tokens of a batch.
Only around the attention itself are queries, keys and values spread to (B, L), and not even there where a CPU only
answers (`text_attention`). For classifiers the last layer computes its output for the first token alone, because that
is all a classification head reads: both are exact, not approximations. Other architectures run their own forward on
padded batches of texts of similar length.

Notation: B texts, T tokens, L tokens of the longest text, H hidden size.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from workers.local_models.linear import linear
from workers.local_models.row_moves import pick
from workers.local_models.text_attention import TextAttention, attention_within
from workers.local_models.tokens import TokenBatch

Variant = Literal["packed", "padded"]

#: `model_type` -> name of the attribute that holds the encoder.
_PACKED = {"bert": "bert", "roberta": "roberta", "xlm-roberta": "roberta", "camembert": "roberta"}


def variant_of(model: PreTrainedModel) -> Variant:
    """Which forward pass serves this model: `packed` where it is known to be exact, else `padded`."""
    config = model.config
    usual = (
        not getattr(config, "is_decoder", False)
        and not getattr(config, "add_cross_attention", False)
        and getattr(config, "position_embedding_type", "absolute") in ("absolute", None)
    )
    known = config.model_type in _PACKED and hasattr(encoder_of(model), "embeddings")
    return "packed" if usual and known else "padded"


def encoder_of(model: PreTrainedModel) -> Any:
    """The encoder inside a classifier of the `packed` variant; a bare encoder is its own."""
    return getattr(model, _PACKED[model.config.model_type], model)


def classify(model: PreTrainedModel, batch: TokenBatch, variant: Variant, pad_id: int = 0) -> torch.Tensor:
    """Logits (B, classes). `pad_id` fills the padded variant; the packed one has nothing to fill."""
    if variant == "packed":
        return _head(model, _first_token_states(model, batch))
    return _padded_forward(model, batch, pad_id)


def token_states(model: PreTrainedModel, batch: TokenBatch, variant: Variant, pad_id: int = 0) -> torch.Tensor:
    """The last hidden states of all tokens, shape (T, H), in the order of `batch.ids`."""
    if variant == "packed":
        encoder = encoder_of(model)
        hidden, attend = _inner_states(encoder, batch)
        return _layer(encoder.encoder.layer[-1], hidden, attend)
    states = model(input_ids=_padded(batch.ids, batch, pad_id), attention_mask=batch.mask.long()).last_hidden_state
    return pick(states.reshape(batch.mask.numel(), -1), batch.padded_index)


def _first_token_states(model: PreTrainedModel, batch: TokenBatch) -> torch.Tensor:
    """The encoder's output for the first token of each text, shape (B, H)."""
    encoder = encoder_of(model)
    hidden, attend = _inner_states(encoder, batch)
    last, first = encoder.encoder.layer[-1], pick(hidden, batch.starts)
    return _rest_of_layer(last, _attended(last.attention.self, first, hidden, attend), first)


def _inner_states(encoder: Any, batch: TokenBatch) -> tuple[torch.Tensor, TextAttention]:
    """The output (T, H) of all layers but the last, and what attends in that one."""
    hidden = _embed(encoder.embeddings, batch)
    attend = attention_within(batch)
    for layer in encoder.encoder.layer[:-1]:
        hidden = _layer(layer, hidden, attend)
    return hidden, attend


def _layer(layer: Any, hidden: torch.Tensor, attend: TextAttention) -> torch.Tensor:
    return _rest_of_layer(layer, _attended(layer.attention.self, hidden, hidden, attend), hidden)


def _attended(attention: Any, asking: torch.Tensor, hidden: torch.Tensor, attend: TextAttention) -> torch.Tensor:
    """`asking`: `hidden` (T, H) itself, or the first tokens of it (B, H); the result has its shape."""
    query = linear(attention.query, asking)
    return attend(attention, query, linear(attention.key, hidden), linear(attention.value, hidden))


def _embed(embeddings: Any, batch: TokenBatch) -> torch.Tensor:
    """Sum of word, type and position embeddings, normalised, shape (T, H)."""
    positions = batch.positions
    offset = getattr(embeddings, "padding_idx", None)
    if offset is not None:  # RoBERTa counts its positions from padding_idx + 1
        positions = positions + offset + 1
    types = embeddings.token_type_embeddings
    hidden = embeddings.word_embeddings(batch.ids) + (types.weight[0] if batch.types is None else types(batch.types))
    hidden = hidden + embeddings.position_embeddings(positions)
    return cast(torch.Tensor, embeddings.dropout(embeddings.LayerNorm(hidden)))


def _rest_of_layer(layer: Any, attended: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    attended = _project(layer.attention.output, attended, residual)
    widened = layer.intermediate.intermediate_act_fn(linear(layer.intermediate.dense, attended))
    return _project(layer.output, widened, attended)


def _project(block: Any, inputs: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    return cast(torch.Tensor, block.LayerNorm(block.dropout(linear(block.dense, inputs)) + residual))


def _head(model: PreTrainedModel, first: torch.Tensor) -> torch.Tensor:
    """Pooler and classification head on the first token's states (B, H)."""
    encoder = encoder_of(model)
    pooler = getattr(encoder, "pooler", None)
    states = first[:, None, :]
    head = cast(nn.Module, model.classifier)
    if pooler is None:
        return cast(torch.Tensor, head(states))
    return cast(torch.Tensor, head(cast(nn.Module, model.dropout)(pooler(states))))


def _padded_forward(model: PreTrainedModel, batch: TokenBatch, pad_id: int) -> torch.Tensor:
    inputs = {"input_ids": _padded(batch.ids, batch, pad_id), "attention_mask": batch.mask.long()}
    if batch.types is not None:
        inputs["token_type_ids"] = _padded(batch.types, batch, 0)
    return cast(torch.Tensor, model(**inputs).logits)


def _padded(values: torch.Tensor, batch: TokenBatch, filling: int) -> torch.Tensor:
    """A number per token (T,) in the padded form (B, L), the rest `filling`."""
    padded = torch.full((batch.mask.numel(),), filling, dtype=values.dtype, device=values.device)
    padded[batch.padded_index] = values
    return padded.view_as(batch.mask)
