"""What a fine-tuned encoder must beat: a linear model on word counts, and always guessing the largest class."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from corpus.bootstrap import Between, no_stop
from workers.judging.class_metrics import Predictions
from workers.judging.waiting import waited_for
from workers.local_models.tokens import Int64s

SVM = "TF-IDF + linear SVM"
MAJORITY = "majority class"
#: What each is called in metrics and in the file of predictions.
KEYS = {SVM: "svm", MAJORITY: "majority"}


def baseline_predictions(
    texts: Sequence[str], labels: Int64s, held_out: Sequence[str], *, balanced: bool, between: Between = no_stop
) -> dict[str, Predictions]:
    """Predictions (M,) for M held-out texts by name of system, which learns from N texts with labels (N,) from 0.

    `balanced` weighs classes as the training does. `between` is called all the time, and may raise to stop: 20,000 rows
    of 20 classes took more than 8 s.
    """
    majority = np.full(len(held_out), np.bincount(labels).argmax(), dtype=np.int64)
    # Constant predictions where the training texts hold no word at all.
    learnable = len(np.unique(labels)) > 1 and any(any(map(str.isalnum, text)) for text in texts)
    if not learnable:
        return {SVM: Predictions(majority), MAJORITY: Predictions(majority)}
    svm = waited_for(lambda: _svm(texts, labels, held_out, balanced=balanced), between)
    return {SVM: svm, MAJORITY: Predictions(majority)}


def _svm(texts: Sequence[str], labels: Int64s, held_out: Sequence[str], *, balanced: bool) -> Predictions:
    """Words and pairs of words."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")  # noqa: S106
    features = vectorizer.fit_transform(texts)
    model = LinearSVC(random_state=0, class_weight="balanced" if balanced else None)
    with warnings.catch_warnings():
        # A baseline that stops at its 1,000 iterations is still a fair one.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, labels)
    read = vectorizer.transform(held_out)
    # One number per row for two classes, else one per class.
    scores = model.decision_function(read)
    return Predictions(np.asarray(model.predict(read), dtype=np.int64), scores if scores.ndim == 1 else None)
