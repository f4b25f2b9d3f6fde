"""What rows that choose and rows that judge may decide, and that the check says of it what the job does."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from corpus.checks.reranker import RerankerData
from corpus.checks.rows import CheckedFile, UsableRow
from corpus.held_out import parts_of
from corpus.pair_splits import query_split, tied_split
from corpus.splits import TEST as TESTING
from corpus.splits import connected, whole_groups
from jobspecs.data_report import DataReport
from jobspecs.registry import parse_spec
from tests.chat_models import CHATML, write_chat_model
from workers.run.context import RunFailed
from workers.training.classification.data import load_texts, sample_and_split
from workers.training.embedding.data import load_rows, split_rows
from workers.training.llm.rows import load_examples, load_renderer, render
from workers.training.model_card import trained_on
from workers.training.ranking.data import check_comparable, load_pairs, split_by_query

DEV, TEST = {"column": "part", "values": ["dev"]}, {"column": "part", "values": ["test"]}
PARTS = {"validation": DEV, "test": TEST}
PAIRS = {"kind": "train-embedder", "sentence1": "a", "sentence2": "b", "score": "score"}
RANKED = {"kind": "train-reranker", "query": "a", "passage": "b", "label": "score"}
CLASSIFIER = {"kind": "train-classifier", "text": "a", "label": "label"}


def spec_of(**fields: Any) -> Any:
    return parse_spec({"name": "n", "model": "m", "dataset": "d", **fields})


def write(path: Path, rows: Sequence[dict[str, Any]]) -> CheckedFile:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return CheckedFile.of(path)


def checked(spec: Any, data: CheckedFile, model: Path | None = None) -> DataReport:
    report = check_data(spec, data, Reader.load(model))
    assert report is not None
    return report


@pytest.mark.parametrize(("sections", "role"), [({"test": TEST}, "test"), ({"validation": TEST}, "test")])
def test_how_uneven_the_rows_are_that_judge_has_no_say_in_how_classes_are_weighed(
    sections: dict[str, Any], role: str, tmp_path: Path
) -> None:

    rows = [{"a": f"text {n}", "label": "good" if n % 10 < 4 else "bad", "part": "train"} for n in range(100)]
    rows += [{"a": f"new {n}", "label": "good" if n else "bad", "part": role} for n in range(300)]
    data, spec = write(tmp_path / "rows.jsonl", rows), spec_of(**CLASSIFIER, **sections)
    split = sample_and_split(load_texts(parts_of(data, spec=spec), "a", "label"), spec)
    assert not split.balanced
    # How the verdict is measured is another question: by accuracy, `good` for all would be nearly right.
    assert split.metric == checked(spec, data).settings["metric"] == "macro_f1"


def test_scores_in_between_are_refused_alike_where_the_loss_knows_only_alike_and_different(tmp_path: Path) -> None:
    rows = [{"a": f"a {n}", "b": f"b {n}", "score": 0.25 if n == 1 else n % 2} for n in range(60)]
    data, spec = write(tmp_path / "rows.jsonl", rows), spec_of(**PAIRS, loss="contrastive")
    (problem,) = checked(spec, data).problems
    assert problem.row == 2 and "0.25 is neither end of score_range" in problem.message
    with pytest.raises(RunFailed, match=r"row 2.*0\.25 is neither end of score_range"):
        load_rows(parts_of(data, spec=spec), spec)
    assert not checked(spec_of(**PAIRS), data).problems


def test_rows_that_choose_but_begin_to_answer_too_late_are_refused_by_check_and_job(tmp_path: Path) -> None:
    parts = ["train"] * 40 + ["dev"] * 8 + ["test"] * 40
    said = [f"{n} " + "wort " * (60 if part == "dev" else 2) for n, part in enumerate(parts)]
    rows = [{"prompt": text, "completion": "good", "part": part} for text, part in zip(said, parts, strict=True)]
    data, model = write(tmp_path / "rows.jsonl", rows), write_chat_model(tmp_path / "model", CHATML)
    fields: dict[str, Any] = {"kind": "finetune-llm", **PARTS}
    training: dict[str, Any] = {"epochs": 1, "max_length": 128}
    watching = spec_of(**fields, training={**training, "keep_best": True})
    (problem,) = checked(watching, data, model).problems
    assert problem.field == "validation" and "all 8 rows that choose begin their answers after 128" in problem.message
    renderer = load_renderer(model, watching)
    split = load_examples(parts_of(data, spec=watching), watching, renderer)
    with pytest.raises(RunFailed, match="leaves anything to learn"):
        render(split.choosing, renderer, watching, 128)
    # Where nothing looks at them the job never reads them.
    assert not checked(spec_of(**fields, training=training), data, model).problems


@pytest.mark.parametrize("loss", ["ranknet", "bce"])
def test_pairs_that_choose_but_can_not_be_compared_are_told(loss: str, tmp_path: Path) -> None:
    """Their loss is 0 whatever was learnt: the first look would stay the best."""
    parts = ["train"] * 100 + ["dev"] * 40 + ["test"] * 100
    texts = [{"a": f"{part} {n // 4}", "b": f"passage {n}", "part": part} for n, part in enumerate(parts)]
    rows: list[dict[str, Any]] = [{**row, "score": 1 if row["part"] == "dev" else n % 2} for n, row in enumerate(texts)]
    spec = spec_of(**RANKED, **PARTS, loss=loss)
    warnings = [warning.message for warning in checked(spec, write(tmp_path / "rows.jsonl", rows)).warnings]
    told = "of 40 rows of validation 0 belong to queries with unlike labels, which is all that ranknet"
    assert any(told in warning for warning in warnings) == (loss == "ranknet")
    same = [{**row, "score": 1 if row["part"] == "train" else n % 2} for n, row in enumerate(rows)]
    problems = checked(spec, write(tmp_path / "rows.jsonl", same)).problems
    assert ["no query of the training part has two with unlike" in p.message for p in problems] == (
        [True] if loss == "ranknet" else []
    )
    split = split_by_query(load_pairs(parts_of(CheckedFile.of(tmp_path / "rows.jsonl"), spec=spec), spec), spec)
    with pytest.raises(RunFailed, match="no query of the training part has two with unlike"):
        check_comparable(split.train)


def test_labelled_texts_that_choose_but_are_alone_in_their_class_are_told(tmp_path: Path) -> None:
    parts = ["train"] * 100 + ["dev"] * 40 + ["test"] * 100
    rows = [{"a": f"{n}", "label": f"{n if p == 'dev' else n % 9}", "part": p} for n, p in enumerate(parts)]
    spec = spec_of(kind="train-embedder", text="a", label="label", **PARTS)
    warnings = [warning.message for warning in checked(spec, write(tmp_path / "rows.jsonl", rows)).warnings]
    assert any("of 40 rows of validation 0 have another one of their class" in warning for warning in warnings)


def test_rows_that_choose_and_judge_are_counted_alike_by_check_and_job(tmp_path: Path) -> None:
    parts = ["train"] * 100 + ["dev"] * 40 + ["test"] * 50
    texts = [f"{n}" if part == "train" else f"  New {n % 40}" for n, part in enumerate(parts)]
    rows = [
        {"a": text, "b": f"to {text}", "label": f"{n % 3}", "score": n % 2, "part": part}
        for n, (text, part) in enumerate(zip(texts, parts, strict=True))
    ]
    data = write(tmp_path / "rows.jsonl", rows)
    for fields, deal in (
        (CLASSIFIER, lambda parts, spec: sample_and_split(load_texts(parts, "a", "label"), spec)),
        (PAIRS, lambda parts, spec: split_rows(load_rows(parts, spec), spec)),
        (RANKED, lambda parts, spec: split_by_query(load_pairs(parts, spec), spec)),
    ):
        spec = spec_of(**fields, **PARTS)
        report = checked(spec, data)
        assert report.held_out is not None and report.held_out.choosing_too == 50
        assert any("50 of 50 rows that judge are also among those of" in warning.message for warning in report.warnings)
        split = deal(parts_of(data, spec=spec), spec)
        assert split.choosing_too == 50
        assert "50 of the held-out rows are among them too" in trained_on(spec, 100, 140, split.choosing_too)


def test_apart_by_both_no_text_chooses_that_judges() -> None:
    texts = np.array([[1, 11], [2, 12], [3, 13], [4, 14], [5, 13], [6, 16]])
    spec = spec_of(**RANKED, validation={**DEV, "by": "both"}, test=TEST)
    split = query_split(spec, roles=np.array([0, 0, TESTING, 1, 1, 1], np.int8), queries=np.arange(6), texts=texts)
    assert (split.choosing.tolist(), split.validation.tolist(), split.left_out) == ([3, 5], [2], 1)


@pytest.mark.parametrize("columns", [2, 3, 4])
def test_texts_dealt_to_two_sides_keep_the_wanted_share_however_many_a_row_has(columns: int) -> None:
    generator = np.random.default_rng(0)
    texts = np.column_stack([generator.integers(600 * n, 600 * (n + 1), size=8000) for n in range(columns)])
    spec = spec_of(kind="train-embedder", anchor="a", positive="b", validation={"by": "both", "fraction": 0.25})
    split = tied_split(spec, roles=np.zeros(8000, np.int8), texts=texts, own=texts[:, :2])
    assert 0.2 < len(split.validation) / (len(split.validation) + len(split.train)) < 0.3


def test_a_split_that_leaves_most_rows_out_is_told(tmp_path: Path) -> None:
    rows = [{"a": f"a {n % 60}", "b": f"b {n % 59}", "label": f"c {n % 61}"} for n in range(3000)]
    spec = spec_of(kind="train-embedder", anchor="a", positive="b", negative="label", validation={"by": "both"})
    warnings = [warning.message for warning in checked(spec, write(tmp_path / "rows.jsonl", rows)).warnings]
    assert any("most of all, are left out because they would join the sides" in warning for warning in warnings)


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 60), st.integers(0, 60)), max_size=80))
def test_rows_are_of_one_group_exactly_where_texts_join_them(rows: list[tuple[int, int]]) -> None:
    groups = connected(np.array(rows, dtype=np.int64).reshape(-1, 2))
    found: list[set[int]] = []
    for row in rows:
        joined = [group for group in found if group & set(row)]
        found = [group for group in found if group not in joined] + [set(row).union(*joined)]
    expected = [next(place for place, group in enumerate(found) if row[0] in group) for row in rows]
    assert len({*zip(groups.tolist(), expected, strict=True)}) == len({*groups.tolist()}) == len({*expected})
    assert sorted({*groups.tolist()}) == list(range(len({*groups.tolist()})))


def test_groups_of_ten_million_rows_fit_into_a_check() -> None:
    texts = np.random.default_rng(0).integers(2**62, size=(100_000, 2))
    # One long chain too: it must not take as many rounds as it has rows.
    texts[:50_000, 1] = texts[1:50_001, 0]
    tracemalloc.start()
    try:
        held_out = whole_groups(connected(texts), np.arange(len(texts)), 25_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held_out.sum() == 25_000 and not held_out[:50_000].any()
    assert peak / len(texts) < 120


def test_a_check_keeps_no_text_of_queries() -> None:
    row = RerankerData(spec_of(**RANKED))._row(1, {"a": "A  question", "b": "an answer", "score": 1})
    assert isinstance(row, UsableRow) and len(row.group) <= 16 and "question" not in row.group
