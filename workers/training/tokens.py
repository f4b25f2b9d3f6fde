"""Texts as token ids: tokenised once, kept flat, cut into batches without padding.

Notation: N texts, T tokens of a batch, B texts of a batch, L tokens of its longest text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

#: Texts per call of the tokenizer; between two calls a run may be stopped.
_CHUNK_TEXTS = 2048

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenTable:
    """The token ids of N texts, special tokens included. Text i is `ids[offsets[i]:offsets[i + 1]]`."""

    ids: Int32s
    #: N + 1 positions in `ids`.
    offsets: Int64s

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64s:
        """Tokens per text, shape (N,)."""
        return np.diff(self.offsets)

    def flat(self, rows: Int64s) -> Int32s:
        """The ids of these texts, one after the other."""
        return np.concatenate([self.ids[self.offsets[row] : self.offsets[row + 1]] for row in rows])


@dataclass(frozen=True)
class TokenBatch:
    """B texts without padding, and the maps to and from the padded form that attention needs."""

    #: (T,) token ids.
    ids: torch.Tensor
    #: (T,) position of each token in its text, from 0.
    positions: torch.Tensor
    #: (B,) index of the first token of each text in `ids`.
    starts: torch.Tensor
    #: (T,) index of each token in the padded (B * L) form.
    padded_index: torch.Tensor
    #: (B, L) true where the padded form holds a token.
    mask: torch.Tensor

    @property
    def texts(self) -> int:
        return int(self.mask.shape[0])

    @property
    def lengths(self) -> torch.Tensor:
        """Tokens per text, shape (B,)."""
        return self.mask.sum(dim=1)

    @property
    def longest(self) -> int:
        return int(self.mask.shape[1])

    def to(self, device: torch.device) -> TokenBatch:
        """The same batch on another device."""
        return TokenBatch(
            *(
                tensor.to(device, non_blocking=True)
                for tensor in (self.ids, self.positions, self.starts, self.padded_index, self.mask)
            )
        )


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_length: int,
    between_chunks: Callable[[int], None] = lambda done: None,
    *,
    special_tokens: bool = True,
) -> TokenTable:
    """Tokenises every text once; longer ones are cut to `max_length` tokens, special tokens included.

    `between_chunks` is told the number of texts done and may raise to stop.
    """
    chunks: list[Int32s] = []
    lengths: list[int] = []
    for start in range(0, len(texts), _CHUNK_TEXTS):
        encoded = tokenizer(
            list(texts[start : start + _CHUNK_TEXTS]),
            add_special_tokens=special_tokens,
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        lengths.extend(len(ids) for ids in encoded)
        chunks.append(np.fromiter((token for ids in encoded for token in ids), dtype=np.int32))
        between_chunks(min(start + _CHUNK_TEXTS, len(texts)))
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return TokenTable(np.concatenate(chunks) if chunks else np.zeros(0, np.int32), offsets)


def batch_of(table: TokenTable, rows: Int64s) -> TokenBatch:
    """The texts `rows` of the table, in that order, as one batch. Shapes as in `TokenBatch`."""
    lengths = table.lengths[rows]
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    longest = int(lengths.max())
    row_of_token = np.repeat(np.arange(len(rows)), lengths)
    positions = np.arange(int(lengths.sum())) - starts[row_of_token]
    return TokenBatch(
        ids=torch.from_numpy(table.flat(rows).astype(np.int64)),
        positions=torch.from_numpy(positions),
        starts=torch.from_numpy(starts),
        padded_index=torch.from_numpy(row_of_token * longest + positions),
        mask=torch.from_numpy(np.arange(longest) < lengths[:, None]),
    )
