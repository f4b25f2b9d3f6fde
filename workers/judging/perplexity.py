"""How well a language model predicts texts that nobody taught it: perplexity and bits per byte, with intervals.

Perplexity is exp of the mean loss per token, and means something only between models that cut texts into the same
tokens; bits per byte of UTF-8 compare any two. Whole texts are resampled: tokens of one text are no independent
witnesses. All intervals are of the same resamples, so that two models on the same texts are compared in pairs.

Notation: N pieces, M texts, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from corpus.bootstrap import Between, Floats, bootstrapped_means, interval, no_stop
from workers.judging.llm_verdict import Figure, perplexity
from workers.local_models.tokens import Int32s, Int64s

#: Tokens of a piece unless told otherwise. Memory grows with it, and so does what a model may look back at.
PIECE_TOKENS = 1024
#: A piece whose first token is all there is predicts nothing.
_PIECE_MIN = 2


@dataclass(frozen=True)
class Pieces:
    """Texts as token ids, long ones in several pieces that follow each other without overlap.

    `ids`: one array per piece. `texts` (N,): the text that each is of. `bytes_` (M,): of each text, in UTF-8.
    """

    ids: tuple[Int32s, ...]
    texts: Int64s
    bytes_: Int64s

    @property
    def tokens(self) -> Int64s:
        """(N,) tokens of each piece that are predicted: all but its first, which nothing stands before."""
        return np.array([len(piece) - 1 for piece in self.ids], dtype=np.int64)

    def of_texts(self, values: Floats) -> Floats:
        """Sums (M,) by text of values (N,) by piece."""
        sums: Floats = np.bincount(self.texts, weights=values, minlength=len(self.bytes_)).astype(np.float64)
        return sums


@dataclass(frozen=True)
class Perplexity:
    """`loss` in nats per token. `resampled_bits` (R,): bits per byte in each resample, the same texts for any model."""

    loss: Figure
    bits_per_byte: Figure
    texts: int
    tokens: int
    resampled_bits: Floats

    @property
    def perplexity(self) -> Figure:
        """exp of the loss and of both ends of its interval."""
        return Figure(*(perplexity(nats) for nats in (self.loss.value, self.loss.low, self.loss.high)))

    def as_json(self) -> dict[str, Any]:
        """Plain JSON for manifests and reports."""
        return {
            "perplexity": vars(self.perplexity),
            "loss": vars(self.loss),
            "bits_per_byte": vars(self.bits_per_byte),
            "texts": self.texts,
            "tokens": self.tokens,
        }


def pieces_of(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_tokens: int = PIECE_TOKENS) -> Pieces:
    """The texts as this tokenizer reads them, with the special tokens that it adds itself; `max_tokens` per piece.

    Texts too short to predict anything are left out. Raises ValueError when none is left.
    """
    ids: list[Int32s] = []
    owners: list[int] = []
    lengths: list[int] = []
    for text in texts:
        tokens = np.array(tokenizer(text, verbose=False)["input_ids"], dtype=np.int32)
        cut = [tokens[start : start + max_tokens] for start in range(0, len(tokens), max_tokens)]
        usable = [piece for piece in cut if len(piece) >= _PIECE_MIN]
        if usable:
            ids += usable
            owners += [len(lengths)] * len(usable)
            lengths.append(len(text.encode()))
    if not ids:
        raise ValueError("none of the texts has two tokens, so that there is nothing to predict.")
    return Pieces(tuple(ids), np.array(owners, dtype=np.int64), np.array(lengths, dtype=np.int64))


def perplexity_of(log_probs: Floats, pieces: Pieces, between: Between = no_stop) -> Perplexity:
    """The figures by log-probabilities (N,) of the pieces, in nats: of each the sum over its predicted tokens.

    `between` is called between two resamples, and may raise to stop.
    """
    nats = -pieces.of_texts(log_probs)
    tokens = pieces.of_texts(pieces.tokens.astype(np.float64))
    means = bootstrapped_means(np.stack([nats, tokens, pieces.bytes_.astype(np.float64)]), between)
    bits = means[0] / means[2] / math.log(2)
    loss = float(nats.sum() / tokens.sum())
    return Perplexity(
        loss=Figure(loss, *interval(means[0] / means[1])),
        bits_per_byte=Figure(float(nats.sum() / pieces.bytes_.sum()) / math.log(2), *interval(bits)),
        texts=len(nats),
        tokens=int(tokens.sum()),
        resampled_bits=bits,
    )
