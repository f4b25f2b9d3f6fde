"""A linear model on word and character n-grams as files: config.json, vocabulary.json, model.safetensors.

Notation: N texts, F features (terms of both sorts, words first), C classes, K = C decisions, or one where there are
two classes. A decision is features @ coefficients + intercept; a class's probability the sigmoid of it, by Platt's
slope and offset (J. Platt 1999), of several classes divided by their sum, as scikit-learn's CalibratedClassifierCV
has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix, hstack
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer

from jobspecs.lifecycle import Reason
from workers.run.context import RunFailed

Floats = npt.NDArray[np.float64]

#: As `architectures` of config.json: by its ending it is known as a classifier.
ARCHITECTURE = "TfidfSvmForSequenceClassification"
_WEIGHTS, _VOCABULARY, _CONFIG = "model.safetensors", "vocabulary.json", "config.json"
_PER_DECISION = ("intercept", "slope", "offset")
_WORD = re.compile(r"\b\w+\b")
#: What is counted, as TfidfVectorizer is told.
FEATURES: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "words": {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": _WORD.pattern, "sublinear_tf": True},
        "characters": {"analyzer": "char_wb", "ngram_range": (3, 5), "sublinear_tf": True},
    }
)


@dataclass(frozen=True)
class TfidfSvm:
    """`terms` and `idf`: of each sort in FEATURES, in the order of the features. Arrays are kept as float32."""

    labels: tuple[str, ...]
    terms: dict[str, list[str]]
    idf: dict[str, npt.NDArray[np.float32]]
    #: (K, F), and (K,) of each: intercept, slope, offset.
    coefficients: npt.NDArray[np.float32]
    per_decision: dict[str, npt.NDArray[np.float32]]

    @cached_property
    def vectorizers(self) -> list[TfidfVectorizer]:
        """Of each sort that has terms. Raises ValueError when terms and `idf` don't fit."""
        return [_vectorizer(self, sort) for sort in FEATURES if self.terms[sort]]

    @cached_property
    def _columns(self) -> Floats:
        """(F, K) the coefficients as they are computed with."""
        return np.ascontiguousarray(self.coefficients.T, dtype=np.float64)

    def words(self, texts: Sequence[str]) -> list[int]:
        """How many words each text has."""
        return [len(_WORD.findall(text)) for text in texts]

    def features(self, texts: Sequence[str]) -> csr_matrix:
        """(N, F)."""
        return hstack([one.transform(texts) for one in self.vectorizers], format="csr")

    def decisions(self, features: csr_matrix) -> Floats:
        """(N, K): how far on the side of each class, or of the second of two."""
        return np.asarray(features @ self._columns) + self.per_decision["intercept"]

    def sigmoids(self, decisions: Floats) -> Floats:
        """(N, C): each class's probability by itself."""
        each = expit(-(self.per_decision["slope"] * decisions + self.per_decision["offset"]))
        return np.hstack([1 - each, each]) if each.shape[1] == 1 else each

    def shares(self, sigmoids: Floats) -> Floats:
        """(N, C): probabilities that add up to 1."""
        total = sigmoids.sum(axis=1, keepdims=True)
        return np.where(total > 0, sigmoids / np.where(total > 0, total, 1), 1 / sigmoids.shape[1])

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """(N, C)."""
        return self.shares(self.sigmoids(self.decisions(self.features(texts))))

    def save(self, folder: Path) -> None:
        """Writes the three files. The same model gives the same bytes."""
        config = {
            "architectures": [ARCHITECTURE],
            "model_type": "tfidf-svm",
            "id2label": {str(place): label for place, label in enumerate(self.labels)},
            "label2id": {label: place for place, label in enumerate(self.labels)},
            "features": {sort: dict(settings) for sort, settings in FEATURES.items()},
        }
        (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (folder / _VOCABULARY).write_text(json.dumps(self.terms), encoding="utf-8")
        arrays = {f"idf.{sort}": self.idf[sort] for sort in FEATURES}
        save_file({**arrays, **self.per_decision, "coefficients": self.coefficients}, folder / _WEIGHTS)


def is_tfidf_svm(config: dict[str, Any]) -> bool:
    """Whether a folder's config.json is of such a model."""
    return config.get("architectures") == [ARCHITECTURE]


def load_tfidf_svm(folder: Path) -> TfidfSvm:
    """Raises RunFailed(invalid_model) for files that are missing or don't fit each other."""
    try:
        config = json.loads((folder / _CONFIG).read_bytes())
        terms = json.loads((folder / _VOCABULARY).read_bytes())
        arrays = load_file(folder / _WEIGHTS)
        model = TfidfSvm(
            labels=tuple(str(config["id2label"][str(place)]) for place in range(len(config["id2label"]))),
            terms={sort: list(terms[sort]) for sort in FEATURES},
            idf={sort: arrays[f"idf.{sort}"] for sort in FEATURES},
            coefficients=arrays["coefficients"],
            per_decision={name: arrays[name] for name in _PER_DECISION},
        )
        # Made now: the first text would wait for them.
        model.vectorizers  # noqa: B018
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise RunFailed(Reason.invalid_model, f"the linear model can't be read: {error!r}") from error
    if (wrong := _misfit(model, config)) is not None:
        raise RunFailed(Reason.invalid_model, f"the linear model can't be used: {wrong}.")
    return model


def _misfit(model: TfidfSvm, config: dict[str, Any]) -> str | None:
    decisions = 1 if len(model.labels) == 2 else len(model.labels)
    features = sum(map(len, model.terms.values()))
    if len(model.labels) < 2 or not features:
        return "it needs two classes and a term at least"
    if model.coefficients.shape != (decisions, features):
        return f"coefficients are {model.coefficients.shape}, not ({decisions}, {features})"
    if any(model.per_decision[name].shape != (decisions,) for name in _PER_DECISION):
        return f"{', '.join(_PER_DECISION)} must have {decisions} values each"
    if not all(
        np.isfinite(one).all() for one in (model.coefficients, *model.idf.values(), *model.per_decision.values())
    ):
        return "some of its numbers are not finite"
    told = {sort: {**settings, "ngram_range": list(settings["ngram_range"])} for sort, settings in FEATURES.items()}
    return None if config.get("features") == told else "its features are counted in a way that is not known here"


def _vectorizer(model: TfidfSvm, sort: str) -> TfidfVectorizer:
    vectorizer = TfidfVectorizer(**FEATURES[sort], vocabulary=model.terms[sort])
    # Raises ValueError where there are not as many as terms.
    vectorizer.idf_ = model.idf[sort].astype(np.float64)
    return vectorizer
