"""Trains the linear model that is built in: liblinear's SVM on n-grams, calibrated on rows that it left out in turn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from corpus.bootstrap import Between, no_stop
from jobspecs.lifecycle import Reason
from workers.judging.waiting import waited_for
from workers.local_models.tfidf_svm import FEATURES, TfidfSvm
from workers.local_models.tokens import Int64s
from workers.run.context import RunFailed

#: Terms of each sort, the most frequent ones: 13,306 headlines lose 0.4 points of accuracy with half of them.
_TERMS_MAX = 100_000
#: Coefficients of each sort of term, so that hundreds of classes don't fill the memory.
_COEFFICIENTS_MAX = 5_000_000
_FOLDS = 5

#: The whole of what serves it, for people who have the folder and scikit-learn.
USE = '''import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from scipy.sparse import hstack
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer

folder = Path("path/to/this/folder")
config = json.loads((folder / "config.json").read_bytes())
vocabulary = json.loads((folder / "vocabulary.json").read_bytes())
arrays = load_file(folder / "model.safetensors")


def probabilities(texts):
    """(texts, classes), the classes in the order of config["id2label"]."""
    features = []
    for sort, settings in config["features"].items():
        if vocabulary[sort]:
            settings = {**settings, "ngram_range": tuple(settings["ngram_range"])}
            vectorizer = TfidfVectorizer(**settings, vocabulary=vocabulary[sort])
            vectorizer.idf_ = arrays[f"idf.{sort}"]
            features.append(vectorizer.transform(texts))
    decisions = hstack(features) @ arrays["coefficients"].T + arrays["intercept"]
    each = expit(-(arrays["slope"] * decisions + arrays["offset"]))
    each = np.hstack([1 - each, each]) if each.shape[1] == 1 else each
    return each / each.sum(axis=1, keepdims=True)'''


@dataclass(frozen=True)
class LinearResult:
    """`folds`: of the calibration; 0 where a class has a single row, so that a sigmoid of the margin has to do."""

    model: TfidfSvm
    folds: int
    #: Whether liblinear came to an end within its 1,000 iterations.
    converged: bool

    def as_json(self) -> dict[str, object]:
        """Plain JSON for the report."""
        terms = {sort: len(found) for sort, found in self.model.terms.items()}
        return {"terms": terms, "calibration_folds": self.folds, "converged": self.converged}

    @property
    def sentence(self) -> str:
        """How training ended."""
        terms = ", ".join(f"{len(found):,} {sort}" for sort, found in self.model.terms.items())
        calibrated = (
            f"Probabilities are calibrated on rows that were left out in turn ({self.folds} folds)."
            if self.folds
            else "Probabilities are not calibrated: a class has a single row to train on."
        )
        stopped = "" if self.converged else " liblinear stopped at 1,000 iterations."
        return f"n-grams of {terms}. {calibrated}{stopped}"


def train_linear(
    texts: Sequence[str],
    labels: Int64s,
    classes: tuple[str, ...],
    *,
    balanced: bool,
    seed: int,
    between: Between = no_stop,
) -> LinearResult:
    """Learns from N texts with labels (N,), of which each class has one. `between` is called all the time, and may
    raise to stop.

    Raises RunFailed(invalid_dataset) when the texts hold nothing to count.
    """
    return waited_for(lambda: _trained(texts, labels, classes, balanced=balanced, seed=seed), between)


def _trained(
    texts: Sequence[str], labels: Int64s, classes: tuple[str, ...], *, balanced: bool, seed: int
) -> LinearResult:
    most = min(_TERMS_MAX, _COEFFICIENTS_MAX // len(classes))
    counted = {sort: _counted(texts, settings, most) for sort, settings in FEATURES.items()}
    features = [found[1] for found in counted.values() if found is not None]
    if not features:
        raise RunFailed(Reason.invalid_dataset, "The texts hold no word and no three characters in a row to count.")
    svm = LinearSVC(random_state=seed, class_weight="balanced" if balanced else None)
    folds = min(_FOLDS, int(np.bincount(labels, minlength=len(classes)).min()))
    matrix = hstack(features, format="csr")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ConvergenceWarning)
        if folds >= 2:
            fitted = CalibratedClassifierCV(svm, ensemble=False, cv=StratifiedKFold(folds)).fit(matrix, labels)
            (calibrated,) = fitted.calibrated_classifiers_
            svm, sigmoids = calibrated.estimator, calibrated.calibrators
        else:
            svm.fit(matrix, labels)
            sigmoids = []
    model = TfidfSvm(
        labels=classes,
        terms={sort: [] if found is None else _terms(found[0]) for sort, found in counted.items()},
        idf={sort: _float32([] if found is None else found[0].idf_) for sort, found in counted.items()},
        coefficients=_float32(svm.coef_),
        per_decision={
            "intercept": _float32(svm.intercept_),
            "slope": _float32([one.a_ for one in sigmoids] or [-1.0] * len(svm.coef_)),
            "offset": _float32([one.b_ for one in sigmoids] or [0.0] * len(svm.coef_)),
        },
    )
    converged = not any(issubclass(one.category, ConvergenceWarning) for one in warned)
    return LinearResult(model, folds if folds >= 2 else 0, converged)


def _counted(texts: Sequence[str], settings: dict[str, Any], most: int) -> tuple[TfidfVectorizer, csr_matrix] | None:
    """The n-grams of one sort; None where there are none, for which the library has an error only."""
    vectorizer = TfidfVectorizer(**settings, max_features=most)
    analyze = vectorizer.build_analyzer()
    if not any(len(analyze(text)) for text in texts):
        return None
    return vectorizer, vectorizer.fit_transform(texts)


def _terms(vectorizer: TfidfVectorizer) -> list[str]:
    return [str(term) for term in vectorizer.get_feature_names_out()]


def _float32(values: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.ascontiguousarray(values, dtype=np.float32)
