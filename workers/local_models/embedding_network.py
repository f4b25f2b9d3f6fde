"""From tokens to one vector per text: an encoder or a table of token embeddings, pooling, and what comes after it.

Notation: B texts, T tokens, H hidden size, D dimensions of the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from workers.local_models.devices import autocast
from workers.local_models.packed_encoder import token_states, variant_of
from workers.local_models.pooling import pool
from workers.local_models.tokens import Int64s, TokenBatch, TokenTable, batch_of

#: Texts of very different length are embedded in this many groups of similar length.
_GROUPS = 4
_GROUP_TEXTS_MIN = 8
#: Attention over a padded form more than so many times the tokens costs more than a further group does.
_PADDED_SHARE_MAX = 2.0


class StaticTable(nn.Module):  # type: ignore[misc]
    """Token embeddings without any layer over them. Speaks of its table as a transformers model does."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(weight, freeze=False)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def set_input_embeddings(self, embedding: nn.Embedding) -> None:
        self.embedding = embedding


class Dense(nn.Module):  # type: ignore[misc]
    """A linear layer and a function over the pooled embedding."""

    def __init__(self, layer: nn.Linear, activation: nn.Module) -> None:
        super().__init__()
        self.linear, self.activation = layer, activation

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.activation(self.linear(embeddings)))


class Normalize(nn.Module):  # type: ignore[misc]
    """Vectors of length 1."""

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        return functional.normalize(embeddings, dim=-1)


class EmbeddingNetwork(nn.Module):  # type: ignore[misc]
    """What is trained and served. `pooling`: names of `workers.local_models.pooling`; `tail`: Dense and Normalize."""

    def __init__(self, encoder: Any, pooling: Sequence[str], tail: Sequence[nn.Module], pad_id: int = 0) -> None:
        super().__init__()
        self.encoder, self.pooling, self.tail, self.pad_id = encoder, tuple(pooling), nn.ModuleList(tail), pad_id
        self.static = isinstance(encoder, StaticTable)
        self.variant = "packed" if self.static else variant_of(encoder)
        pooler = getattr(encoder, "pooler", None)
        if isinstance(pooler, nn.Module):
            # Nothing here reads a classifier's pooler: without gradients it must not count as trained either.
            pooler.requires_grad_(False)

    @property
    def dimensions(self) -> int:
        """D."""
        widths = [layer.linear.out_features for layer in self.tail if isinstance(layer, Dense)]
        table = self.encoder.get_input_embeddings()
        hidden = table.embedding_dim if self.static else self.encoder.config.hidden_size
        return int(widths[-1] if widths else hidden * len(self.pooling))

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        """Embeddings (B, D)."""
        if self.static:
            states = self.encoder.embedding(batch.ids)
        else:
            states = token_states(self.encoder, batch, self.variant, self.pad_id)
        embeddings = torch.cat([pool(name, states, batch) for name in self.pooling], dim=-1)
        for layer in self.tail:
            embeddings = layer(embeddings)
        return embeddings

    def embed(self, tokens: TokenTable, rows: Int64s, device: torch.device) -> torch.Tensor:
        """Embeddings (B, D) in fp32 of these texts of the table, in this order."""
        groups = self._groups(tokens.lengths[rows])
        with autocast(device):
            parts = [self(batch_of(tokens, rows[group]).to(device)).float() for group in groups]
        if len(parts) == 1:
            return parts[0]
        back = torch.from_numpy(np.argsort(np.concatenate(groups))).to(device)
        return torch.cat(parts).index_select(0, back)

    def _groups(self, lengths: Int64s) -> list[Int64s]:
        """Positions in `lengths`, by groups of similar length where that saves arithmetic."""
        everything = np.arange(len(lengths))
        even = len(lengths) * int(lengths.max()) <= _PADDED_SHARE_MAX * int(lengths.sum())
        if self.static or (self.variant == "packed" and even):
            return [everything]
        parts = min(_GROUPS, max(1, len(lengths) // _GROUP_TEXTS_MIN))
        return np.array_split(np.argsort(-lengths, kind="stable"), parts)
