"""What a model is compared with can be stopped while it learns, however long a library takes for it."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from workers.judging.baselines import MAJORITY, SVM, baseline_predictions
from workers.judging.bm25 import pair_scores
from workers.judging.waiting import waited_for
from workers.run.context import RunStopped

TEXTS = [f"the {'ball' if n % 2 else 'bank'} number {n}" for n in range(40)]
LABELS = np.arange(40) % 2


def test_the_baseline_stops_while_the_support_vector_machine_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for liblinear, which took more than 8 s with 20,000 rows of 20 classes."""
    fitting, released = threading.Event(), threading.Event()

    def fit(*_: object) -> None:
        fitting.set()
        released.wait(60)

    def stop() -> None:
        if fitting.is_set():
            raise RunStopped

    monkeypatch.setattr(LinearSVC, "fit", fit)
    began = time.monotonic()
    try:
        with pytest.raises(RunStopped):
            baseline_predictions(TEXTS, LABELS, TEXTS, balanced=False, between=stop)
        assert not released.is_set()
        assert time.monotonic() - began < 30
    finally:
        released.set()


def test_a_baseline_that_nobody_stops_tells_the_classes_apart() -> None:
    found = baseline_predictions(TEXTS, LABELS, TEXTS, balanced=True)
    assert (found[SVM].labels == LABELS).all()
    assert len(set(found[MAJORITY].labels.tolist())) == 1


def test_what_goes_wrong_in_a_computation_is_raised_where_it_is_waited_for() -> None:
    with pytest.raises(ZeroDivisionError):
        waited_for(lambda: 1 // 0, lambda: None)


def test_an_index_of_words_stops_while_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr("workers.judging.bm25.Bm25", lambda passages: released.wait(60))

    def stop() -> None:
        raise RunStopped

    try:
        with pytest.raises(RunStopped):
            pair_scores(["one"], ["two"], stop)
    finally:
        released.set()
