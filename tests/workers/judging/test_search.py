"""The measures are those of the plain formula over whole rankings, and memory doesn't grow with the square."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.judging import search
from workers.judging.search import Listed, SameClass, search_measures

SEED = 20


def plain(scores: np.ndarray, relevant: list[set[int]], own: np.ndarray) -> np.ndarray:
    """Each query's whole ranking: nDCG@10, recall at 1, 10 and 100, and reciprocal rank, place by place."""
    order = np.random.default_rng(SEED).permutation(scores.shape[1]).tolist()
    found = []
    for query, wanted in enumerate(relevant):
        considered = [place for place in order if place != own[query]]
        ranking = sorted(considered, key=lambda place: -scores[query, place])
        gain = sum(1 / np.log2(2 + rank) for rank, place in enumerate(ranking[:10]) if place in wanted)
        ideal = sum(1 / np.log2(2 + rank) for rank in range(min(10, len(wanted))))
        first = next((1 / rank for rank, place in enumerate(ranking[:100], start=1) if place in wanted), 0.0)
        recalls = (len(wanted & set(ranking[:places])) / len(wanted) for places in (1, 10, 100))
        found.append([gain / ideal, *recalls, first])
    return np.array(found)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), texts=st.integers(4, 260), values=st.sampled_from([2, 5, 1000]))
def test_a_search_within_classes_equals_the_plain_formula(seed: int, texts: int, values: int) -> None:
    generator = np.random.default_rng(seed)
    classes = np.append(generator.integers(0, 3, texts - 2), [0, 0]).astype(np.float32)
    sizes = np.bincount(classes.astype(int))
    own = np.flatnonzero(sizes[classes.astype(int)] > 1)
    scores = generator.integers(0, values, (len(own), texts)).astype(np.float32)
    wanted = [set(np.flatnonzero(classes == classes[place]).tolist()) - {place} for place in own.tolist()]
    ours = search_measures(lambda a, b: scores[a:b], SameClass(own, classes), own, texts)
    assert ours == pytest.approx(plain(scores, wanted, own), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), candidates=st.integers(1, 260), values=st.sampled_from([2, 1000]))
def test_a_search_with_lists_equals_the_plain_formula(seed: int, candidates: int, values: int) -> None:
    generator = np.random.default_rng(seed)
    queries = 7
    wanted = [set(generator.choice(candidates, generator.integers(1, min(candidates, 20) + 1))) for _ in range(queries)]
    own = generator.integers(-1, candidates, queries)
    own = np.array([-1 if place in found else place for place, found in zip(own, wanted, strict=True)])
    scores = generator.integers(0, values, (queries, candidates)).astype(np.float32)
    relevance = Listed(tuple(np.array(sorted(found)) for found in wanted))
    ours = search_measures(lambda a, b: scores[a:b], relevance, own, candidates)
    assert ours == pytest.approx(plain(scores, wanted, own), abs=1e-12)


def test_the_discount_of_the_tenth_place_and_none_beyond_it() -> None:
    scores = -np.arange(12, dtype=np.float32)[None]
    for place, gain in ((0, 1.0), (1, 1 / np.log2(3)), (9, 1 / np.log2(11)), (10, 0.0)):
        measured = search_measures(lambda a, b: scores[a:b], Listed((np.array([place]),)), np.array([-1]), 12)
        assert measured[0, 0] == pytest.approx(gain)
        assert measured[0, 1:].tolist() == [place == 0, place < 10, 1, 1 / (1 + place)]


def test_parts_of_the_queries_change_no_figure_and_between_them_it_may_be_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(3)
    classes, own = generator.integers(0, 4, 200), np.arange(200)
    scores = generator.normal(size=(200, 200))

    def measured(between: Any = lambda: None) -> np.ndarray:
        return search_measures(lambda a, b: scores[a:b], SameClass(own, classes), own, 200, between)

    whole = measured()
    monkeypatch.setattr(search, "_SCORES_AT_ONCE", 7 * 200)
    assert np.array_equal(measured(), whole)
    asked = []

    def stop_at_third() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        measured(stop_at_third)


def test_memory_grows_with_the_rows_and_not_with_their_square() -> None:
    """6,000 texts of two classes: as lists of what each should find they were 288 MB, their scores 144 MB."""
    texts = 6000
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(texts, 8)).astype(np.float32)
    classes, own = np.arange(texts) % 2, np.arange(texts)
    tracemalloc.start()
    try:
        search_measures(lambda a, b: vectors[a:b] @ vectors.T, SameClass(own, classes), own, texts)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 130e6
