from __future__ import annotations

from typing import Any

import pytest

from jobspecs.registry import parse_spec

CLASSIFIER: dict[str, Any] = {
    "kind": "train-classifier",
    "name": "quality",
    "model": "hub:org/encoder",
    "dataset": "news@1",
    "text": "headline",
    "label": "quality",
}
LLM: dict[str, Any] = {"kind": "finetune-llm", "name": "writer", "model": "hub:org/llm", "dataset": "chats@1"}


def problems_of(document: dict[str, Any], gpus: int, distributed: str | None = None, **training: Any) -> list[str]:
    if distributed is not None:
        training["distributed"] = distributed
    document = {**document, "resources": {"gpus": gpus}}
    spec = parse_spec({**document, "training": training} if training else document)
    return [str(problem) for problem in spec.problems_of_resources()]


@pytest.mark.parametrize("gpus", [0, 1])
def test_one_gpu_or_none_is_fine_for_every_kind(gpus: int) -> None:
    assert problems_of(CLASSIFIER, gpus) == problems_of(LLM, gpus) == []


def test_other_kinds_train_on_one_gpu() -> None:
    (problem,) = problems_of(CLASSIFIER, 2)
    assert "resources.gpus: train-classifier trains on one GPU; the job asks for 2." in problem


def test_several_gpus_need_a_word_on_how_to_use_them() -> None:
    (problem,) = problems_of(LLM, 4)
    assert "training.distributed: the job asks for 4 GPUs" in problem and "Write distributed: ddp" in problem


@pytest.mark.parametrize("mode", ["ddp", "fsdp", "zero2", "zero3"])
def test_every_mode_is_admitted_with_several_gpus_and_with_these_only(mode: str) -> None:
    assert problems_of(LLM, 2, mode) == []
    (problem,) = problems_of(LLM, 1, mode)
    assert f"resources.gpus: distributed: {mode} takes two GPUs or more" in problem


@pytest.mark.parametrize("mode", ["fsdp", "zero2", "zero3"])
def test_what_cannot_be_shared_out_is_refused(mode: str) -> None:
    four_bits = {**LLM, "tuning": "qlora"}
    assert problems_of(four_bits, 2, "ddp", optimizer="paged_adamw_8bit") == []
    problems = problems_of(four_bits, 2, mode, optimizer="paged_adamw_8bit")
    assert [problem.partition(":")[0] for problem in problems] == [
        "field training.distributed",
        "field training.optimizer",
    ]


def test_a_job_has_a_process_for_each_gpu() -> None:
    together = {**LLM, "resources": {"gpus": 4}, "training": {"distributed": "ddp"}}
    assert [parse_spec(document).processes for document in (CLASSIFIER, LLM, together)] == [1, 1, 4]


def test_deepspeed_cannot_go_back_to_the_best_weights() -> None:
    assert problems_of(LLM, 2, "fsdp", keep_best=True) == []
    (problem,) = problems_of(LLM, 2, "zero2", keep_best=True)
    assert problem.startswith("field training.keep_best")
