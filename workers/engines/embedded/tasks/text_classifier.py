"""The embedded engine for text classifiers: an artifact in a local folder, loaded into this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import torch

from workers.engines.embedded.device import take_device
from workers.local_models.base_model import LoadedModel, load_classifier
from workers.local_models.devices import move_to
from workers.local_models.prediction import logits
from workers.local_models.tokens import TokenTable, tokenize

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
        scores = logits(self._loaded, tokens, self._device, activation=_SCORINGS[scoring])
        return [
            [LabelScore(self.labels[index], float(row[index])) for index in (-row).argsort(kind="stable")]
            for row in scores
        ]
