from __future__ import annotations

from typing import Any

import pytest

from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.problems import InvalidInput
from jobspecs.profile import ColumnProfile, DatasetProfile
from jobspecs.registry import parse_spec

SPEC: dict[str, Any] = {"kind": "finetune-llm", "name": "helpful", "model": "smollm2@1", "dataset": "chats@1"}
COLUMN = ColumnProfile(kind="text", empty=0, distinct=9, longest_chars=90, mean_chars=50)
PROFILE = DatasetProfile(rows=9, columns={"title": COLUMN, "abstract": COLUMN})


def llm(**changes: Any) -> FinetuneLlm:
    spec = parse_spec({**SPEC, **changes})
    assert isinstance(spec, FinetuneLlm)
    return spec


def problems(**changes: Any) -> dict[str | None, str]:
    return {problem.field: str(problem) for problem in llm(**changes).problems_with(PROFILE)}


def test_a_minimal_spec_trains_an_adapter_on_what_the_assistant_says() -> None:
    spec = llm()
    assert (spec.objective, spec.tuning, spec.saved_as) == ("sft", "lora", "adapter")
    assert spec.training.loss_on == "assistant"
    assert spec.problems_with(PROFILE) == []
    assert spec.batch_shape(PROFILE) == (4, 1024)
    assert llm(training={"micro_batch_size": 2, "max_length": 64}).batch_shape(None) == (2, 64)


def test_full_tuning_leaves_a_whole_model_and_no_adapter() -> None:
    assert llm(tuning="full").saved_as == "merged"
    for output in ("adapter", "both"):
        with pytest.raises(InvalidInput, match="full tuning makes no adapter"):
            llm(tuning="full", output=output)


@pytest.mark.parametrize(
    ("objective", "tuning", "rate"),
    [
        ("sft", "lora", 2e-4),
        ("sft", "qlora", 2e-4),
        ("sft", "full", 2e-5),
        ("pretrain", "full", 2e-5),
        ("dpo", "lora", 1e-5),
        ("dpo", "full", 1e-6),
        ("kto", "full", 1e-6),
        ("orpo", "lora", 1e-5),
    ],
)
def test_the_learning_rate_suits_objective_and_tuning_and_is_written_into_the_spec(
    objective: str, tuning: str, rate: float
) -> None:
    spec = llm(objective=objective, tuning=tuning, training={"epochs": 3})
    assert spec.training.learning_rate == rate and spec.training.epochs == 3
    assert spec.model_dump(mode="json")["training"]["learning_rate"] == rate
    given = llm(objective=objective, tuning=tuning, training={"learning_rate": 0.5})
    assert given.training.learning_rate == 0.5


def test_the_spec_of_an_earlier_job_keeps_the_learning_rate_it_was_stored_with() -> None:
    stored = llm(objective="dpo").model_dump(mode="json")
    stored["training"]["learning_rate"] = 2e-4
    assert parse_spec(stored).model_dump(mode="json") == stored


def test_the_schema_says_in_words_what_the_default_depends_on() -> None:
    field = FinetuneLlm.model_json_schema()["$defs"]["LlmTraining"]["properties"]["learning_rate"]
    assert "default" not in field
    assert "1e-06 for dpo with full tuning, 1e-05 with an adapter" in field["description"]


@pytest.mark.parametrize("wrong", [{"objective": ["sft"]}, {"tuning": "half"}, {"training": 3}])
def test_what_decides_the_learning_rate_is_refused_as_any_other_field(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        llm(**wrong)


def test_templates_must_name_columns_that_exist() -> None:
    assert problems(data={"prompt": "Write about {title}", "completion": "{abstract}"}) == {}
    found = problems(data={"prompt": "Write about {titel}", "completion": "{abstract}"})
    assert found.keys() == {"data.prompt"} and "Its columns are: title, abstract" in found["data.prompt"]
    with pytest.raises(InvalidInput, match="literal braces"):
        llm(data={"prompt": "Write {"})


@pytest.mark.parametrize(
    ("training", "field"),
    [
        ({"optimizer": "paged_adamw_8bit"}, "training.optimizer"),
        ({"attention": "flash"}, "training.attention"),
        ({"precision": "bf16"}, "training.precision"),
    ],
)
def test_what_only_gpus_can_do_is_refused_without_one(training: dict[str, str], field: str) -> None:
    assert "works on GPUs only" in problems(training=training)[field]
    assert problems(training=training, resources={"gpus": 1}) == {}


def test_a_micro_batch_has_one_size() -> None:
    with pytest.raises(InvalidInput, match="not both"):
        llm(training={"micro_batch_tokens": 100, "micro_batch_size": 2})


def test_one_row_cannot_both_train_and_judge() -> None:
    (problem,) = llm().problems_with(DatasetProfile(rows=1, columns={"text": COLUMN}))
    assert problem.field == "dataset"


@pytest.mark.parametrize("field", ["chat_template", "trust"])
def test_a_spec_brings_no_template_of_its_own(field: str) -> None:
    with pytest.raises(InvalidInput, match="unknown field"):
        llm(data={field: "{{ x }}"})
