"""What a `merge` spec takes, and what is refused of it before anything is read."""

from __future__ import annotations

from typing import Any

import pytest

from jobspecs.kinds.merge import Merge
from jobspecs.problems import InvalidInput
from jobspecs.registry import parse_spec

ONE, TWO = {"model": "one@1"}, {"model": "two@1"}
WEIGHTED = [{**ONE, "parameters": {"weight": 1}}, {**TWO, "parameters": {"weight": 0.5}}]
_SPEC = {"kind": "merge", "name": "mixed", "method": "linear", "models": WEIGHTED}


def parsed(**fields: Any) -> Merge:
    spec = parse_spec({key: value for key, value in {**_SPEC, **fields}.items() if value is not None})
    assert isinstance(spec, Merge)
    return spec


def test_a_mergekit_file_is_a_spec_and_each_model_is_read_once_in_the_place_that_names_it() -> None:
    spec = parsed(
        method=None,
        merge_method="slerp",
        base_model="one@1",
        models=None,
        slices=[{"sources": [{**ONE, "layer_range": [0, 4]}, {**TWO, "layer_range": [2, 6]}]}] * 2,
        parameters={"t": [{"filter": "mlp", "value": [0, 0.5, 1]}, {"value": 0.5}]},
        dtype="bfloat16",
        tokenizer_source="base",
    )
    assert spec.model_references() == {"base_model": "one@1", "slices[0].sources[1].model": "two@1"}
    assert parse_spec(spec.model_dump(mode="json")) == spec


def test_the_base_is_merged_too_where_a_method_needs_it() -> None:
    spec = parsed(method="ties", base_model="base@1")
    assert [source.model for source in spec.sources()[0]] == ["one@1", "two@1", "base@1"]
    assert spec.leading_model == "base@1"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"models": None}, "one of models and slices"),
        ({"method": "melt"}, "method"),
        ({"merge_method": "ties"}, "unknown field"),
        ({"tokenizer": {"source": "union"}}, "unknown field"),
        ({"models": [{**ONE, "layer_range": [0, 2]}]}, "unknown field"),
        ({"models": [{"model": "/etc/passwd"}, TWO]}, "not a reference"),
        ({"models": [{"model": "../outside"}, TWO]}, "not a reference"),
        ({"models": [*WEIGHTED, WEIGHTED[0]]}, "names a model twice"),
        ({"models": WEIGHTED[:1]}, "2 models or more"),
        ({"models": [ONE, TWO]}, "needs weight for one@1"),
        ({"parameters": {"wieght": 1}}, "doesn't know"),
        ({"parameters": {"normalize": 0.5}}, "true or false"),
        ({"parameters": {"weight": True}}, "takes numbers"),
        ({"method": "ties"}, "needs base_model"),
        ({"method": "ties", "base_model": "b@1", "parameters": {"density": 1.5}}, "from 0 to 1"),
        ({"base_model": "elsewhere@1"}, "add base_model to them"),
        (
            {"method": "slerp", "base_model": "b@1", "parameters": {"t": 1}, "models": [ONE, TWO]},
            "slerp makes a tensor of",
        ),
        ({"models": None, "slices": [{"sources": [{**ONE, "layer_range": [4, 4]}]}]}, "the one after the last"),
        ({"tokenizer_source": "three@1"}, "none of the models"),
        ({"tokenizer_source": "union"}, "none of the models"),
    ],
)
def test_what_can_not_be_merged_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parsed(**fields)
    assert words in str(refused.value)


def test_models_of_different_tasks_are_refused_and_a_bare_encoder_goes_with_an_embedder() -> None:
    spec = parsed()
    first, second = spec.model_references()
    (problem,) = spec.problems_of_models({first: "text-generation", second: "text-classification"})
    assert problem.field == second
    assert not spec.problems_of_models({first: None, second: "sentence-similarity"})
