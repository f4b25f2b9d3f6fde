"""Rows of two texts: which are held out, which texts are on both sides, and that check and job say the same of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from corpus.checks.rows import CheckedFile
from corpus.held_out import parts_of
from corpus.pair_splits import overlap_of, query_split, tied_split
from jobspecs.data_report import DataReport, FieldOverlap
from jobspecs.kinds.train_embedder import TrainEmbedder
from jobspecs.kinds.train_reranker import TrainReranker
from jobspecs.kinds.training import PairValidation
from jobspecs.problems import InvalidInput
from tests.workers.training.ranking.ranking_rows import write_rows
from workers.training.embedding.data import load_rows, split_rows
from workers.training.ranking.data import load_pairs, split_by_query


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), fraction=st.sampled_from([0.1, 0.25, 0.5]), passages=st.sampled_from([6, 40, 400]))
def test_apart_on_both_sides_no_text_judges_that_is_trained_on(seed: int, fraction: float, passages: int) -> None:
    generator = np.random.default_rng(seed)
    # 400 passages are mostly their query's own; 6 are everybody's, so that all rows are connected.
    queries = np.repeat(np.arange(40), 4)
    texts = np.stack([1000 + queries, generator.integers(passages, size=160)], axis=1)
    validation = PairValidation(by="both", fraction=fraction, seed=seed)
    nobody = np.zeros(160, dtype=bool)
    split = query_split(spec_of(validation, None), roles=nobody, queries=queries, texts=texts)
    assert not np.isin(texts[split.validation], texts[split.train]).any()
    assert len(split.train) + len(split.validation) + split.left_out == 160
    assert {of.trained_on for of in overlap_of(split, texts, ("query", "passage")).fields} == {0}
    again = query_split(spec_of(validation, None), roles=nobody, queries=queries, texts=texts)
    assert np.array_equal(split.validation, again.validation)
    sample = query_split(spec_of(validation, 80), roles=nobody, queries=queries, texts=texts)
    assert len(sample.train) + len(sample.validation) + sample.left_out == 80
    tied = tied_split(spec_of(validation, None), roles=nobody, texts=texts, own=texts)
    assert not np.isin(texts[tied.validation], texts[tied.train]).any()


def test_rows_that_fall_apart_into_groups_are_all_used_and_dense_ones_keep_the_wanted_share() -> None:
    nobody = np.zeros(400, dtype=bool)
    validation = PairValidation(by="both", fraction=0.25)
    apart = np.stack([1000 + np.arange(400), np.arange(400) // 4], axis=1)
    split = tied_split(spec_of(validation, None), roles=nobody, texts=apart, own=apart)
    assert (len(split.validation), split.left_out) == (100, 0)
    dense = np.stack([1000 + np.arange(400) // 20, np.arange(400) % 20], axis=1)
    split = query_split(spec_of(validation, None), roles=nobody, queries=np.arange(400) // 20, texts=dense)
    kept = len(split.validation) + len(split.train)
    assert 0.15 < len(split.validation) / kept < 0.35 and kept > 160 and split.left_out == 400 - kept


def test_rows_of_ones_own_judge_whole_and_what_joins_the_sides_does_not_train() -> None:
    texts, judging = np.array([[1, 7], [2, 8], [3, 9], [4, 7], [9, 5]]), np.array([1, 0, 0, 0, 0], dtype=bool)
    given_column = {"column": "split", "values": ["test"]}
    for by, train in (("both", [1, 2, 4]), ("first", [1, 2, 3, 4])):
        validation = PairValidation.model_validate({**given_column, "by": by})
        for split in (
            query_split(spec_of(validation, None), roles=judging, queries=np.arange(5), texts=texts),
            tied_split(spec_of(validation, None), roles=judging, texts=texts, own=texts),
        ):
            assert (split.train.tolist(), split.validation.tolist(), split.left_out) == (train, [0], 4 - len(train))
    assert overlap_of(split, texts, ("query", "passage")).fields == (
        FieldOverlap(field="query", held_out=1, trained_on=0),
        FieldOverlap(field="passage", held_out=1, trained_on=1),
    )


def test_texts_that_can_not_be_told_apart_are_refused_with_the_way_out() -> None:
    texts = np.array([[row, 500] for row in range(40)])
    judging = np.arange(40) < 5
    for validation, judges in (
        (PairValidation(by="both"), ~judging & judging),
        (PairValidation(by="both", column="split", values=["test"]), judging),
    ):
        with pytest.raises(InvalidInput, match="share so many texts") as refused:
            tied_split(spec_of(validation, None), roles=judges.astype(np.int8), texts=texts, own=texts)
        assert refused.value.problems[0].field == "validation.by"


def spec_of(validation: PairValidation, rows: int | None) -> TrainReranker:
    document = {"kind": "train-reranker", "name": "n", "model": "m", "dataset": "d", "positive": "p", "rows": rows}
    told = validation.model_dump(exclude_unset=True)
    return TrainReranker.model_validate({**document, "validation": told})


def checked(spec: Any, path: Path) -> DataReport:
    report = check_data(spec, CheckedFile.of(path), Reader.load(path.parent))
    assert report is not None and not report.problems
    return report


def contrasted(queries: int) -> list[Sequence[str]]:
    """A positive that comes again beside every negative, written in another way; negatives of other queries."""
    return [
        (f"Query {n}", f"the answer {n}" if m else f"The  answer {n}", f"the answer {(n + m + 1) % queries}")
        for n in range(queries)
        for m in range(3)
    ]


@pytest.mark.parametrize("changes", [{}, {"rows": 40}, {"validation": {"by": "both"}}])
@pytest.mark.parametrize("form", ["labelled", "contrasted"])
def test_the_check_says_of_queries_and_passages_what_the_job_says(
    form: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    base = {"kind": "train-reranker", "name": "n", "model": "m", "dataset": "d", **changes}
    if form == "labelled":
        rows = [(f"query {n // 4}", f"Passage {(n * 7) % 23}", int(n % 4 == 0)) for n in range(120)]
        path = write_rows(tmp_path / "rows.csv", ("query", "passage", "label"), rows)
        spec = TrainReranker.model_validate({**base, "passage": "passage", "label": "label"})
    else:
        path = write_rows(tmp_path / "rows.csv", ("query", "positive", "negative"), contrasted(30))
        spec = TrainReranker.model_validate({**base, "positive": "positive", "negative": "negative"})
    report = checked(spec, path)
    split = split_by_query(load_pairs(parts_of(CheckedFile.of(path)), spec), spec)
    held = report.held_out
    assert held is not None
    assert (held.train, held.validation, held.overlap) == (len(split.train), len(split.validation), split.overlap)
    both = spec.validation.by == "both"
    assert all((of.trained_on == 0) if both or of.field == "query" else of.trained_on for of in held.overlap.fields)
    told = [warning.message for warning in report.warnings if warning.field == "validation.by"]
    many = any(of.trained_on > 0.2 * of.held_out for of in held.overlap.fields)
    assert told == ([f"{split.overlap.sentence} The verdict is not about texts that are new."] if many else [])
    assert many or both or "rows" in changes
    assert (split.overlap.left_out > 0) == both


@pytest.mark.parametrize("by", ["first", "both"])
def test_the_check_says_of_anchors_and_their_texts_what_the_job_says(by: str, tmp_path: Path) -> None:
    rows = [(f"question {n % 50}", f"answer {n % 9}", f"answer {(n + 1) % 30}") for n in range(150)]
    path = write_rows(tmp_path / "rows.csv", ("a", "p", "n"), rows)
    spec = TrainEmbedder.model_validate(
        {
            "kind": "train-embedder",
            "name": "n",
            "model": "m",
            "dataset": "d",
            "anchor": "a",
            "positive": "p",
            "negative": "n",
            "validation": {"by": by},
        }
    )
    held = checked(spec, path).held_out
    split = split_rows(load_rows(parts_of(CheckedFile.of(path)), spec), spec)
    assert held is not None and held.overlap == split.overlap
    assert (held.train, held.validation) == (len(split.train), len(split.validation))
    assert [of.field for of in held.overlap.fields] == ["anchor", "positive", "negative"]
    assert (split.rows_in_both == 0) == (by == "both")
    assert ("left out" in split.overlap.sentence) == (by == "both")
