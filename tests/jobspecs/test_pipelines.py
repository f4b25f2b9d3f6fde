"""Pipelines as people write them: what is understood, and what is refused where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema_rs import validator_for

from eigenwerk.specs import read_spec
from jobspecs.figures import figures_of_kind
from jobspecs.pipelines.conditions import ConditionError, parse_condition
from jobspecs.pipelines.reading import parse_pipeline
from jobspecs.pipelines.schema import pipeline_schema
from jobspecs.problems import InvalidInput
from jobspecs.registry import SPECS, parse_spec

EXAMPLES = Path(__file__).parents[2] / "examples"
TRAIN = {"kind": "train-classifier", "name": "m", "model": "base@1", "dataset": "d@1", "text": "t", "label": "l"}
SCORE = {"kind": "score-pairs", "name": "scored", "teacher": "t@1", "dataset": "d@1", "pair": ["a", "b"]}
ALIAS = {"kind": "alias", "alias": "prod", "model": "$a.model"}
DEPLOY = {"kind": "deploy", "name": "served", "model": "$a.model"}


def problems(steps: dict[str, Any], **more: Any) -> dict[str, str]:
    with pytest.raises(InvalidInput) as refused:
        parse_pipeline({"kind": "pipeline", "name": "p", "steps": steps, **more})
    return {str(problem.field): str(problem) for problem in refused.value.problems}


def test_steps_need_what_they_read_compare_and_name() -> None:
    steps = {
        "deploy": {**DEPLOY, "after": ["alias"]},
        "alias": {**ALIAS, "when": "$b.accuracy.low > 0.5 and $a.macro_f1 >= $old.macro_f1"},
        "b": {**TRAIN, "model": "$a.model", "dataset": "$score.dataset", "validation": {"dataset": "$score.dataset"}},
        "a": TRAIN,
        "score": SCORE,
    }
    pipeline = parse_pipeline({"kind": "pipeline", "name": "p", "steps": steps, "models": {"old": "m@prod"}})
    assert [step.name for step in pipeline.steps] == list(steps)
    assert {step.name: step.needs for step in pipeline.steps} == {
        "deploy": ("alias", "a"),
        "alias": ("b", "a"),
        "b": ("a", "score"),
        "a": (),
        "score": (),
    }
    b = next(step for step in pipeline.steps if step.name == "b")
    assert (b.models, b.datasets) == ({"model": "a"}, {"dataset": "score", "validation": "score"})
    assert [step.name for step in pipeline.in_order()].index("alias") > 2


@pytest.mark.parametrize(
    ("steps", "field", "said"),
    [
        ({"a": {**TRAIN, "model": "$b.model"}, "b": {**TRAIN, "after": ["a"]}}, "steps.a", "a waits for b waits for a"),
        ({"a": {**TRAIN, "model": "$a.model"}}, "steps.a", "a waits for a"),
        ({"a": {**TRAIN, "model": "$c.model"}}, "steps.a.model", "there is no step c. Steps are: a."),
        ({"a": {**TRAIN, "after": ["c"]}}, "steps.a.after.0", "there is no step c"),
        ({"a": TRAIN, "b": {**TRAIN, "dataset": "$a.dataset"}}, "steps.b.dataset", "the step a makes a model"),
        ({"a": TRAIN, "b": {**TRAIN, "dataset": "$a.model"}}, "steps.b.dataset", "a data set is read here"),
        ({"a": TRAIN, "b": {**TRAIN, "model": "$a.metrics"}}, "steps.b.model", "Write $a.model."),
        ({"a": TRAIN, "b": ALIAS, "c": {**DEPLOY, "model": "$b.model"}}, "steps.c.model", "the step b makes no model"),
        ({"a": TRAIN, "b": {**TRAIN, "text": "$a.model"}}, "steps.b.text", "reads nothing that a step makes"),
        ({"a": TRAIN, "b": {**ALIAS, "when": "$a.mrr > 0"}}, "steps.b.when", "It may measure: baseline/"),
        ({"a": {**TRAIN, "metric": "accuracy"}, "b": {**ALIAS, "when": "$a.macro_f1.low > 0"}}, "steps.b.when", "such"),
        ({"a": TRAIN, "b": {**ALIAS, "when": "$c.mrr > 0"}}, "steps.b.when", "there is no step or model c"),
        ({"a": TRAIN, "b": ALIAS, "c": {**ALIAS, "when": "$b.x > 0"}}, "steps.c.when", "Only jobs measure something"),
        ({"a": TRAIN, "b": {**ALIAS, "when": "$a.exists"}}, "steps.b.when", "`exists` is for models of the registry"),
        ({"a": TRAIN, "b": {**ALIAS, "when": "$a.accuracy"}}, "steps.b.when", "one of < <= > >= == != is expected"),
        ({"a": {**TRAIN, "lr": 1}}, "steps.a.lr", "unknown field"),
        ({"a": {"kind": "train-everything"}}, "steps.a.kind", "is no kind of step. One of: train-classifier"),
        ({"a": {"name": "m"}}, "steps.a.kind", "the field is missing"),
        ({"a": TRAIN, "b": {**ALIAS, "alias": "latest"}}, "steps.b.alias", "has a meaning of its own"),
        ({"a": TRAIN, "b": {**DEPLOY, "gpus": 2}}, "steps.b", "a replica computes on one GPU"),
        ({"a b": TRAIN}, "steps.a b", "pattern"),
        ({}, "steps", "at least 1"),
    ],
)
def test_what_is_wrong_is_refused_with_its_field(steps: dict[str, Any], field: str, said: str) -> None:
    found = problems(steps)
    assert list(found) == [field]
    assert said in found[field]


def test_all_that_is_wrong_is_told_at_once() -> None:
    found = problems({"a": {**TRAIN, "lr": 1}, "b": {**ALIAS, "model": "$c.model", "when": "1 <"}})
    assert list(found) == ["steps.a.lr", "steps.b.model", "steps.b.when"]


def test_a_named_model_is_no_step_and_of_the_registry() -> None:
    assert list(problems({"a": TRAIN}, models={"a": "m@prod"})) == ["models.a"]
    assert list(problems({"a": TRAIN}, models={"old": "hub:org/m"})) == ["models.old"]


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_kind_says_what_it_may_measure(path: Path) -> None:
    document = read_spec(path).document
    if document["kind"] in SPECS:
        assert figures_of_kind(parse_spec(document))


@given(st.text(alphabet="$ab.low()<>=!andort 01e-/_", max_size=60) | st.text(max_size=40))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        condition = parse_condition(text)
    except ConditionError as error:
        assert str(error)
    else:
        assert condition.truth(lambda source: None) in (True, False, None)


@pytest.mark.parametrize("text", ["(" * 500 + "1 < 2" + ")" * 500, "not " * 900 + "1 < 2"])
def test_no_condition_is_too_deep_to_be_refused(text: str) -> None:
    with pytest.raises(ConditionError, match=r"nested too deeply|at most"):
        parse_condition(text)


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("1 < 2", True),
        ("1 < 2 and 2 < 1 or 1e3 == 1000", True),
        ("1 < 2 and (2 < 1 or not 1 < 2)", False),
        ("not (1 < 2) or -1 >= -1.0", True),
        ("$a-b.validation/x.high != 3", False),
        ("$none.x > 1", None),
    ],
)
def test_conditions_mean_what_they_say(text: str, truth: bool | None) -> None:
    metrics = {"a-b": {"validation/x_high": 3.0}}
    assert parse_condition(text).truth(lambda source: metrics.get(source)) is truth


def test_a_pipeline_that_is_submitted_as_a_job_is_told_where_it_belongs() -> None:
    with pytest.raises(InvalidInput, match="eigenwerk pipelines submit"):
        parse_spec({"kind": "pipeline", "name": "p", "steps": {"a": TRAIN}})


def test_the_schema_of_a_pipeline_takes_the_example_and_refuses_what_is_no_step() -> None:
    validator = validator_for(pipeline_schema())
    example = read_spec(EXAMPLES / "pipeline.yaml").document
    validator.validate(example)
    wrong = {**example, "steps": {"a": {"kind": "alias", "model": "$train.model", "alais": "prod"}}}
    assert not validator.is_valid(wrong)
