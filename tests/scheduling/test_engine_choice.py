from __future__ import annotations

import pytest

from jobspecs.engines import EMBEDDED, LLAMACPP, VLLM, WeightsFormat
from jobspecs.problems import Problem
from scheduling.engine_choice import Choice, Served, choose_engine

LLM = Served(WeightsFormat.safetensors, "text-generation")
GGUF = Served(WeightsFormat.gguf, "text-generation")
EVERYTHING = [frozenset({"embedded", "llamacpp"})]


@pytest.mark.parametrize(
    ("served", "engine"),
    [(LLM, EMBEDDED), (GGUF, LLAMACPP), (Served(WeightsFormat.safetensors, "text-ranking"), EMBEDDED)],
)
def test_the_format_and_the_task_choose_the_engine_and_the_reason_is_told(served: Served, engine: object) -> None:
    choice = choose_engine(served, EVERYTHING, None)
    assert isinstance(choice, Choice)
    assert choice.engine is engine
    assert choice.reason


def test_what_was_asked_for_is_taken_where_it_can_serve_the_model() -> None:
    choice = choose_engine(GGUF, EVERYTHING, "llamacpp")
    assert isinstance(choice, Choice)
    assert "asked for" in choice.reason


def test_with_a_gpu_vllm_is_chosen_where_a_host_has_it() -> None:
    on_gpu = Served(WeightsFormat.safetensors, "text-generation", gpus=1)
    for hosts, engine in (([frozenset({"embedded", "vllm"})], VLLM), (EVERYTHING, EMBEDDED)):
        choice = choose_engine(on_gpu, hosts, None)
        assert isinstance(choice, Choice)
        assert choice.engine is engine


@pytest.mark.parametrize(
    ("served", "wanted", "field", "word"),
    [
        (LLM, "llamacpp", "engine", "gguf"),
        (GGUF, "embedded", "engine", "safetensors"),
        (Served(WeightsFormat.gguf, "text-ranking"), "llamacpp", "engine", "text-ranking"),
        (Served(WeightsFormat.gguf, "text-generation", is_adapter=True), None, "engine", "adapters"),
        (Served(WeightsFormat.safetensors, "text-generation", replicas=9), None, "replicas", "8"),
        (LLM, "vllm", "engine", "no host has vLLM"),
        (Served(WeightsFormat.safetensors, "text-generation", replicas=2), "tgi", "replicas", "1"),
        (LLM, "external", "engine", "somebody else"),
    ],
)
def test_an_impossible_choice_says_why_and_what_to_do(
    served: Served, wanted: str | None, field: str, word: str
) -> None:
    problem = choose_engine(served, EVERYTHING, wanted)
    assert isinstance(problem, Problem)
    assert problem.field == field
    assert word in f"{problem.message} {problem.remedy}"


def test_an_engine_that_no_host_has_is_refused_and_one_that_may_come_is_not() -> None:
    problem = choose_engine(GGUF, [frozenset({"embedded"}), frozenset()], None)
    assert isinstance(problem, Problem)
    assert "no host has llama.cpp" in problem.message
    assert "xllamacpp" in str(problem.remedy)
    for hosts in ([], [frozenset[str]()]):
        assert isinstance(choose_engine(GGUF, hosts, None), Choice)
