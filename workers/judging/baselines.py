"""What a fine-tuned encoder must beat: a linear model on word counts, and always guessing the largest class."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from workers.local_models.tokens import Int64s
from workers.training.classification.data import Split

SVM = "TF-IDF + linear SVM"
MAJORITY = "majority class"


def baseline_predictions(split: Split, *, balanced: bool) -> dict[str, Int64s]:
    """Predictions (N,) for the validation rows by name of system. `balanced` weighs classes as the training does."""
    return {SVM: _svm(split, balanced=balanced), MAJORITY: _majority(split)}


def _svm(split: Split, *, balanced: bool) -> Int64s:
    """Words and pairs of words. Constant predictions where the training texts hold no word at all."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")  # noqa: S106
    if len(np.unique(split.train.labels)) < 2 or not any(any(map(str.isalnum, text)) for text in split.train.texts):
        return _majority(split)
    features = vectorizer.fit_transform(split.train.texts)
    model = LinearSVC(random_state=0, class_weight="balanced" if balanced else None)
    with warnings.catch_warnings():
        # A baseline that stops at its 1,000 iterations is still a fair one.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, split.train.labels)
    return np.asarray(model.predict(vectorizer.transform(split.validation.texts)), dtype=np.int64)


def _majority(split: Split) -> Int64s:
    largest = np.bincount(split.train.labels).argmax()
    return np.full(len(split.validation), largest, dtype=np.int64)
