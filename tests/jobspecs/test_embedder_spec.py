"""What the spec of an embedder refuses of a data set, and why."""

from __future__ import annotations

from typing import Any

import pytest

from jobspecs.kinds.train_embedder import TrainEmbedder
from jobspecs.profile import ColumnProfile, DatasetProfile

BASE = {"kind": "train-embedder", "name": "a", "model": "m@1", "dataset": "d@1"}
SCORED = {**BASE, "sentence1": "a", "sentence2": "b", "score": "s"}
LABELLED = {**BASE, "text": "a", "label": "l"}


def column(kind: Any = "text", values: dict[str, int] | None = None, empty: int = 0) -> ColumnProfile:
    return ColumnProfile(
        kind=kind,
        empty=empty,
        distinct=len(values or {}) or 20,
        values=values or {},
        longest_chars=80,
        mean_chars=20,
        first_empty_row=3 if empty else None,
    )


def found(document: dict[str, Any], rows: int = 20, **columns: ColumnProfile) -> list[tuple[str | None, str]]:
    profile = DatasetProfile(rows=rows, columns={"a": column(), "b": column(), **columns})
    return [(one.field, one.message) for one in TrainEmbedder.model_validate(document).problems_with(profile)]


def scores(*values: float) -> ColumnProfile:
    return column("number", {f"{value:g}": 10 for value in values})


@pytest.mark.parametrize(
    ("changes", "values", "field", "message"),
    [
        ({"score_range": [0, 5]}, (0, 5), None, ""),
        ({"score_range": [0, 5]}, (0, 5.5), "score_range", "'s' holds 5.5, which is not from 0 to 5."),
        ({"score_range": [1, 5]}, (0, 5), "score_range", "'s' holds 0, which is not from 1 to 5."),
        ({"loss": "contrastive"}, (0, 1), None, ""),
        ({"loss": "contrastive"}, (0, 0.5, 1), "loss", "0 (different) and 1 (alike)"),
        ({}, (0.5,), "score", "one value only"),
        ({}, (0.5, 0.6), None, ""),
    ],
)
def test_scores_lie_in_their_range_differ_and_suit_the_loss(
    changes: dict[str, Any], values: tuple[float, ...], field: str | None, message: str
) -> None:
    problems = found({**SCORED, **changes}, s=scores(*values))
    assert [name for name, _ in problems] == ([field] if field else [])
    assert all(message in said for _, said in problems)


def test_words_are_no_scores() -> None:
    assert found(SCORED, s=column()) == [("score", "column 's' holds text, not numbers.")]
    assert found(SCORED, s=column("boolean", {"0": 9, "1": 9})) == []


@pytest.mark.parametrize(("counts", "refused"), [((2, 2), False), ((9, 1), True), ((9,), True), ((1, 2, 2), False)])
def test_two_classes_need_two_texts_each(counts: tuple[int, ...], refused: bool) -> None:
    labels = column(values={f"class {number}": count for number, count in enumerate(counts)})
    assert [field for field, _ in found(LABELLED, l=labels)] == (["label"] if refused else [])


def test_columns_are_there_named_once_and_filled() -> None:
    assert found(SCORED) == [("score", "the data set has no column 's'.")]
    assert found({**SCORED, "sentence2": "a"}, s=scores(0, 1)) == [("sentence2", "column 'a' is named twice.")]
    (problem,) = found(SCORED, s=scores(0, 1), b=column(empty=2))
    assert problem[0] == "sentence2"
    rows = [message for _, message in found(SCORED, rows=1, s=scores(0, 1))]
    assert len(rows) == 1
    assert rows[0].startswith("the data set has 1 rows; ")
