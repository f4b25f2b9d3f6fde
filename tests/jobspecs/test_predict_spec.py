"""What a `predict` spec takes, and what is refused of it before anything is read."""

from __future__ import annotations

from typing import Any

import pytest

from jobspecs.kinds.predict import Predict
from jobspecs.problems import InvalidInput
from jobspecs.profile import ColumnProfile, DatasetProfile
from jobspecs.registry import parse_spec

_SPEC = {"kind": "predict", "name": "said", "model": "m@1", "dataset": "d@1"}


def _parsed(**changes: Any) -> Predict:
    spec = parse_spec({**_SPEC, **changes})
    assert isinstance(spec, Predict)
    return spec


def _profile(*columns: str, rows: int = 3) -> DatasetProfile:
    one = ColumnProfile(kind="text", empty=0, distinct=3, longest_chars=9, mean_chars=4.0)
    return DatasetProfile(rows=rows, columns=dict.fromkeys(columns, one))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "none is given"),
        ({"text": "a", "prompt": "b"}, "text and prompt are given"),
        ({"text": "a", "system": "b"}, "system stands beside prompt"),
        ({"prompt": "{a"}, "can't be read"),
        ({"prompt": "{}"}, "holds no column"),
        ({"text": "a", "generation": {"temperature": 3}}, "temperature"),
    ],
)
def test_a_spec_says_exactly_what_is_read(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        _parsed(**changes)


def test_the_columns_that_are_read_and_made_are_known_before_it_runs() -> None:
    spec = _parsed(prompt="{title}: {body}", system="For {who}")
    assert spec.read_columns() == [("prompt", "title"), ("prompt", "body"), ("system", "who")]
    made = spec.profile_made(_profile("title", "body", "who"))
    assert {"predicted_answer", "predicted_tokens", "title"} <= made.columns.keys()
    problems = spec.problems_with(_profile("title", "predicted_answer"))
    assert [problem.field for problem in problems] == ["prompt", "system", "prefix"]
    assert [problem.field for problem in _parsed(text="a").problems_with(_profile("a", rows=0))] == ["dataset"]


def test_a_model_of_another_task_is_refused_with_what_it_reads() -> None:
    spec = _parsed(text="a")
    assert spec.problems_of_models({"model": "text-classification"}) == spec.problems_of_models({}) == []
    (problem,) = spec.problems_of_models({"model": "text-generation"})
    assert "m@1 is a language model" in problem.message
    assert problem.remedy is not None and "prompt or messages" in problem.remedy
