from __future__ import annotations

from typing import Any

import pytest

from jobspecs.model_tasks import task_of_model
from jobspecs.problems import InvalidInput


@pytest.mark.parametrize(
    ("config", "paths", "task"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, {"config.json"}, "text-generation"),
        ({"architectures": ["GPT2LMHeadModel"]}, set(), "text-generation"),
        ({"architectures": ["BertModel"]}, {"modules.json", "1_Pooling/config.json"}, "sentence-similarity"),
        ({"architectures": ["BertForSequenceClassification"]}, set(), "text-classification"),
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}, set(), "text-ranking"),
        ({"architectures": ["BertForSequenceClassification"]}, {"modules.json"}, "text-classification"),
        ({"architectures": ["BertForSequenceClassification"], "num_labels": 1}, set(), "text-ranking"),
        ({"architectures": ["BertForSequenceClassification"], "num_labels": 500}, set(), "text-classification"),
        ({"architectures": ["BertForSequenceClassification"], "num_labels": None}, set(), "text-classification"),
        ({"architectures": ["BertForMaskedLM"]}, set(), None),
        ({"architectures": "LlamaForCausalLM"}, set(), None),
        ({}, set(), None),
    ],
)
def test_the_task_of_a_model_is_read_from_its_files(config: dict[str, Any], paths: set[str], task: str | None) -> None:
    assert task_of_model(config, paths) == task


@pytest.mark.parametrize("wrong", ["2", "x", [1], {}, 0.5, 2.0, float("inf"), True, 0, -1, 10**400])
@pytest.mark.parametrize("field", ["num_labels", "id2label"])
def test_a_head_without_a_possible_number_of_outputs_is_refused(field: str, wrong: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        task_of_model({"architectures": ["BertForSequenceClassification"], field: wrong}, set())
    [problem] = refused.value.problems
    assert (problem.file, problem.field) == ("config.json", field)
    assert len(problem.message) < 100 and problem.remedy
