"""A cross-encoder at work: pairs of texts in, one score each out.

ranker = load_reranker(folder)
ranker.score("What does a panda eat?", ["Bamboo, nearly always.", "Pandas live in China."])  # -> (2,) from 0 to 1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from jobspecs.lifecycle import Reason
from workers.local_models.base_model import LoadedModel, load_classifier
from workers.local_models.devices import move_to
from workers.local_models.prediction import logits
from workers.local_models.tokens import TokenTable, tokenize_pairs
from workers.run.context import RunFailed

Pair = tuple[str, str]
Scores = npt.NDArray[np.float32]


class RankingModel:
    """A model with a head of one number, ready to score on `device`. `max_tokens` lowers the model's own limit."""

    def __init__(self, loaded: LoadedModel, device: torch.device, max_tokens: int | None = None) -> None:
        self._loaded = loaded
        self._device = device
        self._max_tokens = min(max_tokens or loaded.max_tokens, loaded.max_tokens)
        move_to(loaded.model, device).train(False)

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest pair that is read whole; of longer ones the longer text is cut."""
        return self._max_tokens

    def score(self, query: str, texts: Sequence[str], *, raw: bool = False) -> Scores:
        """Scores (N,) of the texts for one query, in their order; logits if `raw`, else 0 to 1 (sigmoid)."""
        return self.score_pairs([(query, text) for text in texts], raw=raw)

    def score_pairs(
        self, pairs: Sequence[Pair], *, raw: bool = False, after_batch: Callable[[int], None] = lambda done: None
    ) -> Scores:
        """Scores (N,) of pairs, in their order. `after_batch` is told the number of pairs done and may raise."""
        return self.score_tokens(self.tokenize(pairs), raw=raw, after_batch=after_batch)

    def score_tokens(
        self, tokens: TokenTable, *, raw: bool = False, after_batch: Callable[[int], None] = lambda done: None
    ) -> Scores:
        """As `score_pairs`, for pairs that are tokenised already."""
        outputs = logits(self._loaded, tokens, self._device, after_batch)[:, 0]
        return outputs if raw else sigmoid(outputs)

    def count_tokens(self, pairs: Sequence[Pair]) -> list[int]:
        """Tokens that each pair takes, special tokens included, after cutting."""
        return [int(length) for length in self.tokenize(pairs).lengths]

    def count_whole_tokens(self, pairs: Sequence[Pair]) -> list[int]:
        """As `count_tokens`, before any cut."""
        return [int(length) for length in tokenize_pairs(self._loaded.tokenizer, pairs, 1 << 30, types=False).lengths]

    def cut_texts(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        """Texts without what is behind their first `max_tokens` tokens, special ones not counted."""
        options = {"truncation": True, "max_length": max_tokens, "add_special_tokens": False}
        found = self._loaded.tokenizer(list(texts), **options, return_offsets_mapping=True)["offset_mapping"]
        return [text[: spans[-1][1]] if spans else text for text, spans in zip(texts, found, strict=True)]

    def tokenize(self, pairs: Sequence[Pair]) -> TokenTable:
        """The pairs as this model reads them."""
        return tokenize_pairs(self._loaded.tokenizer, pairs, self.max_tokens, types=self._loaded.has_types)


def load_reranker(model_dir: Path, device: torch.device | None = None, max_tokens: int | None = None) -> RankingModel:
    """The cross-encoder in this folder, on the CPU unless told otherwise. `max_tokens` lowers the model's own limit.

    Raises RunFailed(invalid_model) as `load_base` does, and for a head of several classes.
    """
    loaded = load_classifier(model_dir)
    if loaded.model.config.num_labels != 1:
        raise RunFailed(
            Reason.invalid_model,
            f"cross-encoder: the model has {loaded.model.config.num_labels} outputs; one that scores pairs has one.",
        )
    return RankingModel(loaded, device or torch.device("cpu"), max_tokens)


def sigmoid(outputs: Scores) -> Scores:
    """Logits to scores between 0 and 1; never overflows."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * outputs)), dtype=np.float32)
