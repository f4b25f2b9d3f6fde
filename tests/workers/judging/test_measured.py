"""Figures of answers and calibration by hand, and what may be said of two models."""

from __future__ import annotations

import numpy as np
import pytest

from workers.judging.answer_overlap import exact_match, keeps_to, rouge, schema_validator
from workers.judging.calibration import calibration_curve, calibration_error
from workers.judging.measured import Measured, compared, mean_of, measured


def test_words_in_common_are_counted_as_rouge_counts_them() -> None:
    found = rouge("the cat sat on the mat", "The cat is on the mat.")
    assert found == pytest.approx({"rouge_1": 5 / 6, "rouge_2": 3 / 5, "rouge_l": 5 / 6})
    assert rouge("", "") == {"rouge_1": 0.0, "rouge_2": 0.0, "rouge_l": 0.0}
    assert rouge("b a", "a b")["rouge_l"] == 0.5
    assert exact_match(" Paris\n", "paris") and not exact_match("Paris.", "paris")


def test_an_answer_keeps_to_a_schema_or_not_and_nothing_is_fetched_for_it() -> None:
    validator = schema_validator({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    assert [keeps_to(text, validator) for text in ('{"a": 1}', '{"a": "1"}', 'so: {"a": 1}', "[]")] == [
        True,
        *[False] * 3,
    ]
    with pytest.raises(ValueError, match="no JSON schema"):
        schema_validator({"type": "nothing"})
    with pytest.raises(ValueError, match=r"refers to http://127\.0\.0\.1:1/x, and nothing is fetched"):
        schema_validator({"properties": {"a": {"$ref": "http://127.0.0.1:1/x"}}})
    with pytest.raises(ValueError, match="refers to what it does not hold"):
        keeps_to("{}", schema_validator({"$ref": "#/$defs/absent"}))


def test_calibration_is_the_distance_of_being_right_from_being_sure() -> None:
    right, sure = np.array([1.0, 0.0, 1.0, 1.0]), np.array([0.95, 0.95, 0.55, 1.0])
    first, last = calibration_curve(right, sure)
    assert (first["rows"], first["right"], last["rows"], last["right"]) == (1, 1.0, 3, pytest.approx(2 / 3))
    assert calibration_error(right, sure) == pytest.approx((abs(1 - 0.55) + abs(2 - 2.9)) / 4)


def _of(model: str, right: np.ndarray) -> Measured:
    return measured(model, {"accuracy": mean_of(right)}, len(right), "rows", right=right)


def test_a_model_is_better_where_the_interval_of_the_difference_says_so() -> None:
    generator = np.random.default_rng(3)
    weak = (generator.random(300) < 0.6).astype(np.float64)
    strong = np.maximum(weak, generator.random(300) < 0.5)
    found = compared(_of("new", strong), _of("old", weak), "accuracy")
    assert found.standing == "better" and found.p_value is not None and found.p_value < 0.001
    assert found.only_second == 0 and "new is better than old" in found.sentence
    assert compared(_of("old", weak), _of("new", strong), "accuracy").standing == "worse"
    same = compared(_of("a", weak), _of("b", weak), "accuracy")
    assert same.standing == "unclear" and same.differences["accuracy"].low == 0 == same.differences["accuracy"].high
    few = compared(_of("a", np.ones(4)), _of("b", np.zeros(4)), "accuracy")
    assert few.standing == "unclear" and "at least 6" in few.sentence
