from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jobspecs.kinds.train_classifier import TrainClassifier
from jobspecs.problems import InvalidInput
from jobspecs.profile import ColumnProfile, DatasetProfile
from jobspecs.references import parse_reference
from jobspecs.registry import SPECS, parse_spec

SPEC: dict[str, Any] = {
    "kind": "train-classifier",
    "name": "quality",
    "model": "hub:org/encoder",
    "dataset": "news@1",
    "text": "headline",
    "label": "quality",
}


def problems_of(document: Any) -> dict[str | None, str]:
    with pytest.raises(InvalidInput) as refused:
        parse_spec(document)
    return {problem.field: str(problem) for problem in refused.value.problems}


def profile(label_values: dict[str, int], *, empty: int = 0) -> DatasetProfile:
    rows = sum(label_values.values())
    text = ColumnProfile(kind="text", empty=0, distinct=rows, longest_chars=9, mean_chars=5)
    label = ColumnProfile(
        kind="text",
        empty=empty,
        distinct=len(label_values),
        values=label_values,
        longest_chars=4,
        mean_chars=4,
        first_empty_row=7 if empty else None,
    )
    return DatasetProfile(rows=rows + empty, columns={"headline": text, "quality": label})


def test_a_minimal_spec_gets_the_documented_defaults() -> None:
    spec = parse_spec(SPEC)
    assert isinstance(spec, TrainClassifier)
    assert spec.validation.fraction == 0.25
    assert spec.training.batch_size == 32
    assert spec.resources.max_runtime == timedelta(hours=24)


def test_a_spec_survives_the_way_through_json() -> None:
    spec = parse_spec({**SPEC, "resources": {"max_runtime": "90m"}})
    again = parse_spec(spec.model_dump(mode="json"))
    assert again == spec
    assert again.resources.max_runtime == timedelta(minutes=90)


@pytest.mark.parametrize("document", [None, [], "train", 3])
def test_what_is_no_object_is_refused(document: Any) -> None:
    assert "object with fields" in problems_of(document)[None]


def test_an_unknown_kind_names_the_known_ones() -> None:
    assert "train-classifier" in problems_of({**SPEC, "kind": "train-clasifier"})["kind"]


def test_each_wrong_field_is_named_with_its_path() -> None:
    problems = problems_of({**SPEC, "training": {"epochs": "many", "lr": 1}, "extra": 1})
    assert set(problems) == {"training.epochs", "training.lr", "extra"}
    assert "unknown field" in problems["training.lr"]


def test_a_missing_field_is_named() -> None:
    assert "missing" in problems_of({key: value for key, value in SPEC.items() if key != "text"})["text"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    assert "training.learning_rate" in problems_of({**SPEC, "training": {"learning_rate": value}})


@pytest.mark.parametrize("duration", ["9999999999999d", "9" * 400 + "s", "90", "2 h", "-1s", "0s", "31d", "1d30m"])
def test_a_duration_that_is_none_or_too_long_is_refused(duration: str) -> None:
    assert set(problems_of({**SPEC, "resources": {"max_runtime": duration}})) == {"resources.max_runtime"}


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1.5m", 90), (" 2h ", 7200), ("1d", 86_400), (5, 5)])
def test_a_duration_has_the_length_of_its_unit(text: Any, seconds: float) -> None:
    spec = parse_spec({**SPEC, "resources": {"max_runtime": text}})
    assert spec.resources.max_runtime.total_seconds() == seconds
    assert spec.model_dump(mode="json")["resources"]["max_runtime"] == f"{seconds:g}s"


@pytest.mark.parametrize(
    "reference",
    [
        "../etc/passwd",
        "a/b/c",
        "",
        ".hidden",
        "name@",
        "hub:name",
        "name@0",
        "a b",
        "n\0",
        "name\n",
        "x" * 129,
        "name@99999999999",
    ],
)
def test_what_is_no_reference_is_refused(reference: str) -> None:
    with pytest.raises(ValueError, match=r"reference|versions|organisation"):
        parse_reference(reference)


@pytest.mark.parametrize(
    "text", ["news", "news@1", "news@prod", "ada/news@3", "hub:org/encoder", "hub:org/encoder@v1.0"]
)
def test_a_reference_is_written_as_it_was_read(text: str) -> None:
    assert str(parse_reference(text)) == text


def test_data_sets_do_not_come_from_a_hub() -> None:
    assert "datasets pull hub:org/data" in problems_of({**SPEC, "dataset": "hub:org/data"})["dataset"]


def test_a_good_data_set_raises_no_problem() -> None:
    assert parse_spec(SPEC).problems_with(profile({"good": 10, "bad": 8})) == []


def test_an_unknown_column_lists_the_known_ones() -> None:
    spec = parse_spec({**SPEC, "label": "class"})
    (problem,) = spec.problems_with(profile({"good": 10, "bad": 8}))
    assert problem.field == "label"
    assert "headline, quality" in str(problem)


def test_one_class_is_nothing_to_tell_apart() -> None:
    (problem,) = parse_spec(SPEC).problems_with(profile({"good": 10}))
    assert problem.field == "label"
    assert "one class" in problem.message


def test_a_class_of_one_row_is_refused() -> None:
    (problem,) = parse_spec(SPEC).problems_with(profile({"good": 10, "bad": 1}))
    assert "'bad' has 1 row" in problem.message


def test_an_empty_label_names_its_first_row() -> None:
    (problem,) = parse_spec(SPEC).problems_with(profile({"good": 10, "bad": 8}, empty=2))
    assert problem.row == 7


def test_an_identifier_is_no_label() -> None:
    (problem,) = parse_spec(SPEC).problems_with(profile({str(number): 2 for number in range(600)}))
    assert "no class label" in problem.message


def test_text_and_label_must_differ() -> None:
    (problem,) = parse_spec({**SPEC, "text": "quality"}).problems_with(profile({"good": 10, "bad": 8}))
    assert "same column" in problem.message


@pytest.mark.parametrize("kind", SPECS)
def test_every_kind_has_a_schema_whose_fields_are_described_or_typed(kind: str) -> None:
    schema = SPECS[kind].model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["kind"] == {"const": kind, "title": "Kind", "type": "string"}


@pytest.mark.parametrize(
    ("weights", "counts", "balanced"),
    [
        ("auto", [75, 25], False),
        ("auto", [76, 24], True),
        ("auto", [50, 50, 20], False),
        ("auto", [50, 50, 19], True),
        ("none", [99, 1], False),
        ("balanced", [50, 50], True),
    ],
)
def test_classes_are_balanced_where_the_smallest_has_less_than_half_its_share(
    weights: str, counts: list[int], balanced: bool
) -> None:
    spec = TrainClassifier.model_validate({**SPEC, "training": {"class_weights": weights}})
    assert spec.training.balances(counts) is balanced


LINEAR = {
    "kind": "train-classifier",
    "name": "a",
    "model": "builtin:tfidf-svm",
    "dataset": "d",
    "text": "t",
    "label": "l",
}


def test_what_is_built_in_is_no_model_that_is_looked_up_and_its_spec_survives_being_stored() -> None:
    spec = parse_spec(LINEAR)
    assert spec.model_references() == {}
    assert parse_spec(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "builtin:svm"}, "builtin:tfidf-svm"),
        ({"dataset": "builtin:tfidf-svm"}, "train-classifier takes builtin:tfidf-svm"),
        ({"training": {"epochs": 3}}, "training.epochs means nothing"),
        ({"test": {"dataset": "e"}, "validation": {"dataset": "f"}}, "chooses nothing"),
    ],
)
def test_what_a_built_in_model_cannot_do_is_said(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse_spec({**LINEAR, **changes})
    assert parse_spec({**LINEAR, "resources": {"gpus": 1}}).problems_of_resources()[0].field == "resources.gpus"
