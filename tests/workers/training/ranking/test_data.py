"""Pairs read and split: nothing leaks, bad rows are named, a query's pairs stay together, negatives are none."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus.checks.rows import CheckedFile
from corpus.held_out import parts_of
from corpus.splits import VALIDATION
from jobspecs.dialect import named_columns
from jobspecs.kinds.train_reranker import RerankerNegatives, TrainReranker
from tests.workers.training.ranking.ranking_rows import ranked_rows, write_rows
from workers.judging.bm25 import Bm25, pair_scores
from workers.run.context import RunFailed, RunStopped
from workers.training.batches import QueryPlan
from workers.training.hard_negatives import Floats
from workers.training.ranking.data import Pairs, load_pairs, split_by_query
from workers.training.ranking.negatives import mine_negatives, pool_candidates

HEADER = ("query", "passage", "label")


def spec(**changes: Any) -> TrainReranker:
    columns = {} if "positive" in changes else {"passage": "passage", "label": "label"}
    document = {"kind": "train-reranker", "name": "a", "model": "m", "dataset": "d", **columns, **changes}
    return TrainReranker.model_validate(document)


def read(folder: Path, rows: list[Any], header: tuple[str, ...] = HEADER, **changes: Any) -> Pairs:
    return load_pairs(parts_of(CheckedFile.of(write_rows(folder / "rows.csv", header, rows))), spec(**changes))


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.9])
def test_no_query_is_on_both_sides_whatever_its_case_and_spaces(tmp_path: Path, fraction: float) -> None:
    rows = [
        (query.upper() if place % 2 else f"  {query} ", passage, label)
        for place, (query, passage, label) in enumerate(ranked_rows())
    ]
    pairs = read(tmp_path, rows, validation={"fraction": fraction})
    split = split_by_query(pairs, spec(validation={"fraction": fraction}))
    sides = [{" ".join(query.lower().split()) for query in part.queries} for part in (split.train, split.validation)]
    assert not sides[0] & sides[1]
    assert all(sides)
    assert len(split.train) + len(split.validation) == len(rows)


def test_the_split_depends_on_the_seed_and_takes_whole_queries_of_a_sample(tmp_path: Path) -> None:
    pairs = read(tmp_path, ranked_rows())
    one, same, other = (split_by_query(pairs, spec(rows=41, validation={"seed": seed})) for seed in (1, 1, 2))
    assert one.validation.queries == same.validation.queries != other.validation.queries
    assert len(one.train) + len(one.validation) == 40


def test_one_query_alone_is_refused(tmp_path: Path) -> None:
    pairs = read(tmp_path, [("a query", f"passage {number}", number % 2) for number in range(8)])
    with pytest.raises(RunFailed, match="same query"):
        split_by_query(pairs, spec())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("q", "", 1), "row 3: the cell is empty"),
        (("  ", "p", 1), "row 3: the cell is empty"),
        (("q", "p", "good"), "row 3: 'good' is not a number"),
        (("q", "p", "nan"), "row 3: 'nan' is not a number"),
        (("q", "p", 4), "row 3: 4 is not between 0 and 1"),
    ],
)
def test_a_bad_row_is_refused_with_its_number(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(RunFailed, match=message):
        read(tmp_path, [("a", "b", 1), ("a", "c", 0), row])


def test_labels_become_0_to_1(tmp_path: Path) -> None:
    assert read(tmp_path, [("a", "b", 5), ("c", "d", 2.5)], score_range=[0, 5]).labels.tolist() == [1.0, 0.5]
    assert read(tmp_path, [("a", "b", "True"), ("c", "d", "false")]).labels.tolist() == [1.0, 0.0]


def test_positives_and_negatives_become_pairs_without_repetition(tmp_path: Path) -> None:
    rows = [("q", "yes", "no"), ("q", "yes", "never"), ("r", "no", "yes")]
    pairs = read(tmp_path, rows, ("query", "positive", "negative"), positive="positive", negative="negative")
    assert list(zip(pairs.texts, pairs.labels.tolist(), strict=True)) == [
        (("q", "yes"), 1.0),
        (("q", "no"), 0.0),
        (("q", "never"), 0.0),
        (("r", "no"), 1.0),
        (("r", "yes"), 0.0),
    ]


def test_a_file_without_header_is_read_with_names_that_are_given(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.csv", ("first", "second", "1"), [("a", "b", 0)])
    assert load_pairs(parts_of(CheckedFile.of(path, named_columns(HEADER))), spec()).queries == ("first", "a")


def test_a_plan_keeps_the_pairs_of_a_query_together_and_shows_each_once_per_epoch() -> None:
    queries = np.random.default_rng(0).integers(13, size=60)
    plan = QueryPlan(queries, 16, 2.0, seed=5)
    steps = [plan.rows(step) for step in range(plan.steps_total)]
    assert plan.steps_total == 2 * plan.steps_per_epoch
    for epoch in (steps[: plan.steps_per_epoch], steps[plan.steps_per_epoch :]):
        assert sorted(np.concatenate(epoch)) == list(range(60))
        for rows in epoch:
            runs = queries[rows][np.flatnonzero(np.diff(queries[rows], prepend=-1))]
            assert len(set(runs)) == len(runs)
            assert all((queries == query).sum() == (queries[rows] == query).sum() for query in runs)
    assert not np.array_equal(steps[0], steps[plan.steps_per_epoch])
    assert np.array_equal(plan.rows(1), QueryPlan(queries, 16, 2.0, seed=5).rows(1))


def by_letter(texts: Any, prompt: str) -> Floats:
    """Unit vectors whose cosine is known: `0.9 …` has the cosine 0.9 with `1 …`."""
    assert prompt == "query" or "query" not in " ".join(texts)
    cosines = np.array([float(text.split()[0]) for text in texts])
    return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)


CORPUS = ["1 answer", "0.99 almost", "0.9 near", "0.8 far", "0.5 farther"]
PAIRS = Pairs(
    ("1 query",), ("1 answer",), np.ones(1, np.float32), np.zeros(1, np.int64), np.ones(1, np.int64), np.zeros(1, bool)
)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"num_negatives": 2}, ["0.9 near", "0.8 far"]),
        ({"relative_margin": None}, ["0.99 almost", "0.9 near", "0.8 far", "0.5 farther"]),
        ({"absolute_margin": 0.15}, ["0.8 far", "0.5 farther"]),
        ({"max_score": 0.7}, ["0.5 farther"]),
        ({"range_min": 2}, ["0.8 far", "0.5 farther"]),
        ({"range_max": 2}, ["0.9 near"]),
    ],
)
def test_the_margins_keep_out_what_is_probably_an_answer(settings: dict[str, Any], expected: list[str]) -> None:
    mined = mine_negatives(PAIRS, CORPUS, by_letter, RerankerNegatives.model_validate(settings), seed=1)
    assert list(mined.passages) == ["1 answer", *expected]
    assert mined.labels.tolist() == [1.0] + [0.0] * len(expected)
    assert set(mined.queries) == {"1 query"} and set(mined.groups) == {0}


def test_a_margin_lies_below_an_answer_that_the_embedder_thinks_unlike() -> None:
    pairs = Pairs(
        ("1 query",),
        ("-0.5 answer",),
        np.ones(1, np.float32),
        np.zeros(1, np.int64),
        np.ones(1, np.int64),
        np.zeros(1, bool),
    )
    corpus = ["-0.5 answer", "-0.51 almost", "-0.6 far"]
    mined = mine_negatives(pairs, corpus, by_letter, RerankerNegatives(relative_margin=0.1), seed=1)
    assert list(mined.passages[1:]) == ["-0.6 far"]


def test_positives_alone_that_find_no_negative_can_not_train() -> None:
    settings = RerankerNegatives(relative_margin=0.9)
    with pytest.raises(RunFailed, match="no passage lies below the margins"):
        mine_negatives(PAIRS, CORPUS, by_letter, settings, seed=1)


def test_what_only_chooses_is_no_negative_of_what_trains() -> None:
    roles = np.array([0, VALIDATION, 0], dtype=np.int8)
    pairs = Pairs(
        ("1 a", "1 b", "1 c"),
        ("1 answer", "0.5 chosen", "0.4 other"),
        np.ones(3, np.float32),
        np.arange(3),
        np.arange(1, 4),
        roles,
    )
    mined = mine_negatives(pairs, pairs.passages, by_letter, RerankerNegatives(num_negatives=2, range_max=5), seed=1)
    taken = {(query, passage) for query, passage in mined.texts[3:]}
    assert ("1 a", "0.4 other") in taken and ("1 b", "0.4 other") in taken
    assert not {query for query, passage in taken if passage == "0.5 chosen"} & {"1 a", "1 c"}


def test_random_negatives_are_drawn_by_the_seed_from_those_that_pass() -> None:
    settings = RerankerNegatives(num_negatives=2, sampling="random")
    drawn = [mine_negatives(PAIRS, CORPUS, by_letter, settings, seed).passages[1:] for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    assert all("0.99 almost" not in passages for passages in drawn)


def test_a_passage_paired_with_the_query_is_never_mined_or_pooled() -> None:
    pairs = Pairs(
        ("1 query", "1 query"),
        ("1 answer", "0.9 near"),
        np.array([1, 0], np.float32),
        np.zeros(2, np.int64),
        np.ones(2, np.int64),
        np.zeros(2, bool),
    )
    mined = mine_negatives(pairs, CORPUS, by_letter, RerankerNegatives(), seed=1)
    assert list(mined.passages[2:]) == ["0.8 far", "0.5 farther"]
    pooled = pool_candidates(pairs, CORPUS, by_letter, 2)
    assert "1 query" not in pooled.passages and len(set(pooled.passages)) == len(pooled.passages)


def test_pooling_stops_while_words_are_indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr("workers.training.ranking.negatives.Bm25", lambda corpus: released.wait(60))

    def stop() -> None:
        raise RunStopped

    pairs = Pairs(
        ("1 query",),
        ("1 answer",),
        np.array([1], np.float32),
        np.zeros(1, np.int64),
        np.ones(1, np.int64),
        np.zeros(1, bool),
    )
    try:
        with pytest.raises(RunStopped):
            pool_candidates(pairs, CORPUS, by_letter, 2, stop)
    finally:
        released.set()


def test_bm25_prefers_rare_shared_words_and_knows_when_there_are_none() -> None:
    index = Bm25(["the storm came", "the river runs", "the garden grows"])
    scores = index.scores("The STORM of the century")
    assert scores.argmax() == 0 and scores[0] > scores[1] >= 0
    assert not index.scores("quite otherwise").any()
    assert not Bm25(["...", "?!"]).scores("storm").any()
    assert pair_scores(["storm", "river"], ["the river", "the river"]).tolist()[0] == 0
