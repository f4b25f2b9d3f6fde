from __future__ import annotations

from typing import Any

import pytest

from jobspecs.model_tasks import task_of_model


@pytest.mark.parametrize(
    ("config", "paths", "task"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, {"config.json"}, "text-generation"),
        ({"architectures": ["GPT2LMHeadModel"]}, set(), "text-generation"),
        ({"architectures": ["BertModel"]}, {"modules.json", "1_Pooling/config.json"}, "sentence-similarity"),
        ({"architectures": ["BertForSequenceClassification"]}, set(), "text-classification"),
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}, set(), "text-ranking"),
        ({"architectures": ["BertForSequenceClassification"]}, {"modules.json"}, "text-classification"),
        ({"architectures": ["BertForMaskedLM"]}, set(), None),
        ({"architectures": "LlamaForCausalLM"}, set(), None),
        ({}, set(), None),
    ],
)
def test_the_task_of_a_model_is_read_from_its_files(config: dict[str, Any], paths: set[str], task: str | None) -> None:
    assert task_of_model(config, paths) == task
