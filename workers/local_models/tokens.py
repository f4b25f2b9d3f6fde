"""Texts as token ids: tokenised once, kept flat, cut into batches without padding.

Notation: N texts, T tokens of a batch, B texts of a batch, L tokens of its longest text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

#: Texts per call of the tokenizer; between two calls a run may be stopped.
_CHUNK_TEXTS = 2048

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenTable:
    """The token ids of N texts or pairs, special tokens included. Text i is `ids[offsets[i]:offsets[i + 1]]`."""

    ids: Int32s
    #: N + 1 positions in `ids`.
    offsets: Int64s
    #: Like `ids`, for models that tell the two texts of a pair apart: 0 in the first, 1 in the second.
    types: Int8s | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64s:
        """Tokens per text, shape (N,)."""
        return np.diff(self.offsets)

    def numbered(self) -> Int64s:
        """Numbers (N,) from 0, equal for texts of equal tokens."""
        numbers: dict[bytes, int] = {}
        ids = (self.ids[start:end].tobytes() for start, end in zip(self.offsets, self.offsets[1:], strict=False))
        return np.array([numbers.setdefault(text, len(numbers)) for text in ids], dtype=np.int64)

    def flat(self, rows: Int64s) -> Int32s:
        """The ids of these texts, one after the other."""
        return np.concatenate([self.ids[self.offsets[row] : self.offsets[row + 1]] for row in rows])

    def flat_types(self, rows: Int64s) -> Int8s | None:
        """The types of the tokens that `flat` gives."""
        if self.types is None:
            return None
        return np.concatenate([self.types[self.offsets[row] : self.offsets[row + 1]] for row in rows])


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
    #: (T,) type of each token, where the model has more than one.
    types: torch.Tensor | None = None

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
                None if tensor is None else tensor.to(device, non_blocking=True)
                for tensor in (self.ids, self.positions, self.starts, self.padded_index, self.mask, self.types)
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
    options = _options(max_length) | {"add_special_tokens": special_tokens}
    return _tokenize(lambda part: tokenizer(list(texts[part]), **options), len(texts), between_chunks)


def tokenize_pairs(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    max_length: int,
    between_chunks: Callable[[int], None] = lambda done: None,
    *,
    types: bool,
) -> TokenTable:
    """Tokenises every pair once, both texts in one sequence; of a long pair the longer text is cut first.

    `types`: whether the model wants to know which text a token is of. `between_chunks` as in `tokenize`.
    """

    def encode(part: slice) -> Any:
        firsts, seconds = zip(*pairs[part], strict=True)
        return tokenizer(list(firsts), list(seconds), **_options(max_length, types=types))

    return _tokenize(encode, len(pairs), between_chunks)


def _options(max_length: int, *, types: bool = False) -> dict[str, Any]:
    return {
        "truncation": True,
        "max_length": max_length,
        "padding": False,
        "return_attention_mask": False,
        "return_token_type_ids": types,
    }


def _tokenize(encode: Callable[[slice], Any], rows: int, between_chunks: Callable[[int], None]) -> TokenTable:
    """Rows `encode`d in chunks, as one table; its types are left out where all of them are 0."""
    ids: list[Int32s] = []
    types: list[Int8s] = []
    lengths: list[int] = []
    for start in range(0, rows, _CHUNK_TEXTS):
        encoded = encode(slice(start, start + _CHUNK_TEXTS))
        lengths.extend(len(row) for row in encoded["input_ids"])
        ids.append(np.fromiter((token for row in encoded["input_ids"] for token in row), dtype=np.int32))
        if "token_type_ids" in encoded:
            types.append(np.fromiter((kind for row in encoded["token_type_ids"] for kind in row), dtype=np.int8))
        between_chunks(min(start + _CHUNK_TEXTS, rows))
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    several = any(bool(part.any()) for part in types)
    return TokenTable(
        np.concatenate(ids) if ids else np.zeros(0, np.int32), offsets, np.concatenate(types) if several else None
    )


def batch_of(table: TokenTable, rows: Int64s) -> TokenBatch:
    """The texts `rows` of the table, in that order, as one batch. Shapes as in `TokenBatch`."""
    lengths = table.lengths[rows]
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    longest = int(lengths.max())
    row_of_token = np.repeat(np.arange(len(rows)), lengths)
    positions = np.arange(int(lengths.sum())) - starts[row_of_token]
    types = table.flat_types(rows)
    return TokenBatch(
        ids=torch.from_numpy(table.flat(rows).astype(np.int64)),
        positions=torch.from_numpy(positions),
        starts=torch.from_numpy(starts),
        padded_index=torch.from_numpy(row_of_token * longest + positions),
        mask=torch.from_numpy(np.arange(longest) < lengths[:, None]),
        types=None if types is None else torch.from_numpy(types.astype(np.int64)),
    )


def by_length(lengths: Int64s, tokens_max: int) -> Iterator[Int64s]:
    """Texts to judge in batches of at most `tokens_max`, padding included; one at least, the longest first.

    What needs most memory fails at once, and texts of similar length need little padding.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens_max // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size
