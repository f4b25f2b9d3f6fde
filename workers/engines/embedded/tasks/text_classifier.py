"""The embedded engine for text classifiers: an artifact in a local folder, loaded into this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix

from workers.engines.embedded.device import take_device
from workers.local_models.base_model import LoadedModel, load_classifier, read_json
from workers.local_models.devices import move_to
from workers.local_models.prediction import logits
from workers.local_models.tfidf_svm import TfidfSvm, is_tfidf_svm, load_tfidf_svm
from workers.local_models.tokens import Int64s, TokenTable, tokenize

#: What becomes of the head's outputs: probabilities that add up to 1, one for each class by itself, or nothing.
Scoring = Literal["softmax", "sigmoid", "none"]
_SCORINGS: Mapping[Scoring, Callable[[torch.Tensor], torch.Tensor]] = MappingProxyType(
    {
        "softmax": lambda outputs: torch.softmax(outputs, dim=-1),
        "sigmoid": torch.sigmoid,
        "none": lambda outputs: outputs,
    }
)


@dataclass(frozen=True)
class LabelScore:
    """A class and its score: a probability, 0 to 1, unless other scores were asked for."""

    label: str
    score: float


class Classifier:
    """Classifies texts. One call at a time: it uses the threads of its process as they are set."""

    def __init__(self, loaded: LoadedModel, device: torch.device) -> None:
        self._loaded = loaded
        self._device = device
        labels = {int(index): name for index, name in (loaded.model.config.id2label or {}).items()}
        #: Class names, in the order of the model's outputs.
        self.labels = tuple(labels[index] for index in range(len(labels)))

    @classmethod
    def load(cls, directory: Path, threads: int = 1) -> Classifier:
        """Loads the artifact in `directory` and sets this process to `threads` torch threads.

        Raises RunFailed(invalid_model) when it is not a complete classifier.
        """
        device = take_device(threads)
        loaded = load_classifier(directory)
        move_to(loaded.model, device).eval()
        return cls(loaded, device)

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest text that is read whole."""
        return self._loaded.max_tokens

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text with its special tokens, before any cut."""
        return [int(length) for length in tokenize(self._loaded.tokenizer, texts, 1 << 30).lengths]

    def tokenize(self, texts: Sequence[str]) -> TokenTable:
        """Texts are cut at the length used in training."""
        return tokenize(self._loaded.tokenizer, texts, self._loaded.max_tokens)

    def classify(self, texts: Sequence[str], scoring: Scoring = "softmax") -> list[list[LabelScore]]:
        """All classes for each text, the most probable first."""
        return self.classify_tokens(self.tokenize(texts), scoring)

    def classify_tokens(self, tokens: TokenTable, scoring: Scoring = "softmax") -> list[list[LabelScore]]:
        """As `classify`, for texts that are tokenised already."""
        return _best_first(self.labels, logits(self._loaded, tokens, self._device, activation=_SCORINGS[scoring]))


@dataclass(frozen=True)
class CountedTexts:
    """N texts as a linear model reads them: features (N, F) and words (N,)."""

    features: csr_matrix
    lengths: Int64s


class LinearClassifier:
    """The same of a linear model on n-grams, which reads texts whole: its tokens are words."""

    max_tokens = 1 << 20

    def __init__(self, model: TfidfSvm) -> None:
        self._model = model
        self.labels = model.labels

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._model.words(texts)

    def tokenize(self, texts: Sequence[str]) -> CountedTexts:
        return CountedTexts(self._model.features(texts), np.array(self._model.words(texts), dtype=np.int64))

    def classify(self, texts: Sequence[str], scoring: Scoring = "softmax") -> list[list[LabelScore]]:
        return self.classify_tokens(self.tokenize(texts), scoring) if texts else []

    def classify_tokens(self, tokens: CountedTexts, scoring: Scoring = "softmax") -> list[list[LabelScore]]:
        """`softmax` are the calibrated probabilities; `none` the distances from the hyperplanes."""
        decisions = self._model.decisions(tokens.features)
        if scoring == "none":
            scores = np.hstack([-decisions, decisions]) if decisions.shape[1] == 1 else decisions
        else:
            scores = self._model.sigmoids(decisions)
            scores = self._model.shares(scores) if scoring == "softmax" else scores
        return _best_first(self.labels, scores.astype(np.float32))


def load_text_classifier(directory: Path, threads: int = 1) -> Classifier | LinearClassifier:
    """Whichever sort of classifier is in `directory`. Raises RunFailed(invalid_model) as their loaders do."""
    if is_tfidf_svm(read_json(directory / "config.json", required=True)):
        return LinearClassifier(load_tfidf_svm(directory))
    return Classifier.load(directory, threads)


def _best_first(labels: Sequence[str], scores: npt.NDArray[np.float32]) -> list[list[LabelScore]]:
    """`scores` (N, C)."""
    return [[LabelScore(labels[index], float(row[index])) for index in (-row).argsort(kind="stable")] for row in scores]
