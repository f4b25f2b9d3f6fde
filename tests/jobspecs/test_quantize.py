"""Specs of `quantize`: what goes together, and what is refused with the field."""

from __future__ import annotations

from typing import Any

import pytest

from jobspecs.kinds.quantize import Quantize
from jobspecs.problems import InvalidInput
from jobspecs.profile import ColumnProfile, DatasetProfile
from jobspecs.registry import parse_spec


def spec(**fields: Any) -> Quantize:
    document = {"kind": "quantize", "name": "small", "model": "big", "dataset": "texts", "scheme": "gguf", **fields}
    parsed = parse_spec(document)
    assert isinstance(parsed, Quantize)
    return parsed


def test_a_scheme_decides_what_the_spec_leaves_open() -> None:
    assert (spec().gguf_type, spec().target_engine, spec().family) == ("q4_k_m", "llama.cpp", "gguf")
    assert spec(scheme="gguf:q8_0").gguf_type == "q8_0"


@pytest.mark.parametrize("scheme", ["gguf", "gptq", "awq", "int4-rtn", "fp8", "nf4", "int8"])
def test_a_spec_survives_being_stored(scheme: str) -> None:
    given = spec(scheme=scheme, validation={"dataset": "others"})
    assert parse_spec(given.model_dump(mode="json")) == given


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"scheme": "gguf:q9"}, "scheme"),
        ({"scheme": "gguf", "bits": 4}, "leave bits out"),
        ({"scheme": "gguf", "group_size": 64}, "groups of its own"),
        ({"scheme": "gguf", "symmetric": True}, "leave it out"),
        ({"scheme": "gguf", "target": "vllm"}, "llama.cpp does"),
        ({"scheme": "exl2"}, "CUDA"),
        ({"scheme": "awq", "bits": 3}, "awq has 4"),
        ({"scheme": "nf4", "target": "tgi"}, "transformers does"),
        ({"validation": {"dataset": "others", "fraction": 0.5}}, "leave fraction out"),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        spec(**fields)


def test_two_rows_are_refused() -> None:
    column = ColumnProfile(kind="text", empty=0, distinct=2, distinct_capped=False, longest_chars=80, mean_chars=60.0)
    problems = spec().problems_with(DatasetProfile(rows=2, columns={"text": column}))
    assert [problem.field for problem in problems] == ["dataset"]
    assert "2 rows; 16 are needed" in problems[0].message
