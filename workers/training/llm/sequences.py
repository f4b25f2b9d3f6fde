"""Token sequences with a mask of what is to be learnt, kept flat, and micro-batches of them without padding.

Notation: N sequences, T tokens of a micro-batch, B its sequences, S its supervised tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from workers.local_models.tokens import Int32s, Int64s
from workers.training.llm.packed_attention import Bucket, PackedLayout

Bools = npt.NDArray[np.bool_]

#: A bucket's longest sequence is at most this many times its shortest: what padding inside attention may cost.
_SPREAD_MAX = 2


@dataclass(frozen=True)
class Sequences:
    """N sequences. Sequence i is `ids[offsets[i]:offsets[i + 1]]`; `learnt` marks the tokens that count in the loss."""

    ids: Int32s
    learnt: Bools
    #: N + 1 positions in `ids`.
    offsets: Int64s

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64s:
        """Tokens per sequence, shape (N,)."""
        return np.diff(self.offsets)

    @property
    def supervised(self) -> Int64s:
        """Tokens per sequence that count in the loss, shape (N,). The first token has nothing before it: never one."""
        firsts = self.learnt[self.offsets[:-1]].astype(np.int64)
        sums = np.concatenate(([0], np.cumsum(self.learnt, dtype=np.int64)))
        return sums[self.offsets[1:]] - sums[self.offsets[:-1]] - firsts

    def subset(self, rows: Int64s) -> Sequences:
        """These sequences, in this order."""
        return sequences_of((self.ids[a:b], self.learnt[a:b]) for a, b in self._spans(rows))

    def _spans(self, rows: Int64s) -> list[tuple[int, int]]:
        return [(int(self.offsets[row]), int(self.offsets[row + 1])) for row in rows]


@dataclass(frozen=True)
class SequenceBatch:
    """B sequences end to end, shortest first."""

    #: (T,) token ids.
    ids: torch.Tensor
    #: (T,) position of each token in its sequence, from 0.
    positions: torch.Tensor
    #: (T,) which sequence each token belongs to, as a position in `order`.
    rows: torch.Tensor
    #: (T,) tokens of the sequence that each token belongs to.
    lengths: torch.Tensor
    #: (S,) index in `ids` of the token before each supervised one: where its prediction stands.
    predictors: torch.Tensor
    #: (S,) the supervised tokens.
    targets: torch.Tensor
    #: (S,) which sequence each supervised token belongs to, as a position in `order`.
    owners: torch.Tensor
    #: (S,) index of each supervised token among all tokens of the `Sequences`.
    sources: Int64s
    #: (B + 1,) where each sequence begins in `ids`, and T; int32, as FlashAttention wants it.
    boundaries: torch.Tensor
    #: The rows that make up the batch, in its order.
    order: Int64s
    layout: PackedLayout

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence: the last."""
        return max(bucket.longest for bucket in self.layout.buckets)

    def to(self, device: torch.device) -> SequenceBatch:
        """The same batch on another device."""
        if device.type == "cpu":
            return self
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
        return replace(self, **moved, layout=self.layout.to(device))


def sequences_of(parts: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]]) -> Sequences:
    """Makes a table of (ids, learnt) pairs."""
    pairs = [(np.asarray(ids, dtype=np.int32), np.asarray(learnt, dtype=np.bool_)) for ids, learnt in parts]
    offsets = np.zeros(len(pairs) + 1, dtype=np.int64)
    np.cumsum([len(ids) for ids, _ in pairs], out=offsets[1:])
    if not pairs:
        return Sequences(np.zeros(0, np.int32), np.zeros(0, np.bool_), offsets)
    return Sequences(np.concatenate([ids for ids, _ in pairs]), np.concatenate([m for _, m in pairs]), offsets)


def batch_of(sequences: Sequences, rows: Int64s) -> SequenceBatch:
    """The sequences `rows` as one batch without padding, sorted by length (stable)."""
    order = rows[np.argsort(sequences.lengths[rows], kind="stable")]
    lengths = sequences.lengths[order]
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)
    owner = np.repeat(np.arange(len(order)), lengths)
    positions = np.arange(int(lengths.sum())) - starts[owner]
    source = sequences.offsets[order][owner] + positions
    ids = sequences.ids[source].astype(np.int64)
    supervised = np.flatnonzero(sequences.learnt[source] & (positions > 0))
    return SequenceBatch(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        rows=torch.from_numpy(owner),
        lengths=torch.from_numpy(lengths[owner]),
        predictors=torch.from_numpy(supervised - 1),
        targets=torch.from_numpy(ids[supervised]),
        owners=torch.from_numpy(owner[supervised]),
        sources=source[supervised],
        boundaries=torch.from_numpy(np.concatenate((starts, [int(lengths.sum())])).astype(np.int32)),
        order=order,
        layout=PackedLayout(tuple(_buckets(lengths, starts)), int(lengths.sum())),
    )


def micro_batches(lengths: Int64s, rows: Int64s, tokens_max: int, rows_max: int | None) -> Iterator[Int64s]:
    """Cuts `rows` into parts of similar length: at most `rows_max` rows, or else at most `tokens_max` tokens each.

    `lengths` counts the tokens of each row. A row longer than `tokens_max` is a part of its own.
    """
    order = rows[np.argsort(lengths[rows], kind="stable")]
    part: list[int] = []
    tokens = 0
    for row in order:
        full = len(part) == rows_max if rows_max is not None else tokens + int(lengths[row]) > tokens_max
        if part and full:
            yield np.array(part, dtype=np.int64)
            part, tokens = [], 0
        part.append(int(row))
        tokens += int(lengths[row])
    if part:
        yield np.array(part, dtype=np.int64)


def _buckets(lengths: Int64s, starts: Int64s) -> Iterator[Bucket]:
    """Runs of sequences of similar length; `lengths` rises."""
    first = 0
    while first < len(lengths):
        beyond = first + int(np.searchsorted(lengths[first:], lengths[first] * _SPREAD_MAX, side="right"))
        inside = lengths[first:beyond]
        longest = int(inside[-1])
        row = np.repeat(np.arange(len(inside)), inside)
        begin = int(starts[first])
        within = np.arange(int(inside.sum())) - (starts[first:beyond] - begin)[row]
        padded = None if int(inside[0]) == longest else torch.from_numpy(row * longest + within)
        yield Bucket(begin, begin + len(row), len(inside), longest, padded)
        first = beyond


def same_in_both(one: Sequences, other: Sequences) -> int:
    """How many sequences of `other` are also in `one`, token for token."""
    known = {part.tobytes() for part in np.split(one.ids, one.offsets[1:-1])}
    return sum(part.tobytes() in known for part in np.split(other.ids, other.offsets[1:-1]))
