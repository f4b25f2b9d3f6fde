"""What an `evaluate` spec takes, and what is refused of it before anything is read."""

from __future__ import annotations

from typing import Any

import pytest

from jobspecs.figures import figures_of_kind
from jobspecs.kinds.evaluate import Evaluate
from jobspecs.problems import InvalidInput
from jobspecs.profile import ColumnProfile, DatasetProfile
from jobspecs.registry import parse_spec

_SPEC = {"kind": "evaluate", "name": "judged", "models": ["a@1", "b@1"], "dataset": "d@1"}
_CLASSES = {"task": "classification", "text": "t", "label": "l"}


def _parsed(**changes: Any) -> Evaluate:
    spec = parse_spec({**_SPEC, **changes})
    assert isinstance(spec, Evaluate)
    return spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "classification", "text": "t"}, "label is missing"),
        ({**_CLASSES, "score": "s"}, "classification does not read score"),
        ({**_CLASSES, "models": ["a@1", "a@1"]}, "one model twice"),
        ({**_CLASSES, "models": []}, "models"),
        ({"task": "generation", "prompt": "{q}"}, "by what answers are judged"),
        ({"task": "generation", "reference": "r"}, "give one of them"),
        ({"task": "generation", "messages": "m", "reference": "r"}, "leave reference out"),
        ({"task": "generation", "models": ["a@1"], "prompt": "{q}", "judge": {"model": "c@1"}}, "two models"),
        ({"task": "nothing"}, "task"),
    ],
)
def test_a_spec_has_what_its_task_reads_and_nothing_else(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        _parsed(**changes)


@pytest.mark.parametrize(
    "fields",
    [
        _CLASSES,
        {"task": "similarity", "pair": ["a", "b"], "score": "s"},
        {"task": "retrieval", "query": "q", "passage": "p"},
        {"task": "reranking", "query": "q", "passage": "p", "label": "l"},
        {"task": "perplexity", "text": "t"},
        {"task": "generation", "prompt": "{q}", "reference": "r"},
    ],
)
def test_a_spec_survives_being_stored(fields: dict[str, Any]) -> None:
    spec = _parsed(**fields)
    assert parse_spec(spec.model_dump(mode="json")) == spec


def test_models_have_roles_and_figures_below_them() -> None:
    spec = _parsed(task="generation", prompt="{q}", reference="r", judge={"model": "c@1"})
    assert spec.model_references() == {"model": "a@1", "model2": "b@1", "judge": "c@1"}
    assert spec.read_columns() == [("reference", "r"), ("prompt", "q")]
    figures = figures_of_kind(spec)
    assert {"rouge_l", "rouge_l_low", "model2/preferred", "difference/exact_match_high"} <= figures
    assert "accuracy" not in figures and "model3/rouge_l" not in figures


def test_models_of_other_tasks_and_columns_that_do_not_fit_are_named() -> None:
    spec = _parsed(task="similarity", pair=["x", "y"], score="s")
    tasks = {"model": "sentence-similarity", "model2": "text-generation"}
    (problem,) = spec.problems_of_models(tasks)
    assert problem.field == "models.1" and "b@1 is a language model" in problem.message
    text = ColumnProfile(kind="text", empty=0, distinct=3, longest_chars=9, mean_chars=4.0)
    found = spec.problems_with(DatasetProfile(rows=3, columns={"x": text, "y": text, "s": text}))
    assert [one.field for one in found] == ["score"]
    assert [one.field for one in spec.problems_with(DatasetProfile(rows=0, columns={"x": text}))] == [
        "pair",
        "score",
        "dataset",
    ]
