"""What a model can serve, read from its own configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from jobspecs.tasks import SENTENCE_SIMILARITY, TEXT_CLASSIFICATION, TEXT_GENERATION, TEXT_RANKING

#: What sentence-transformers writes beside config.json: the parts that make a vector of a text.
_MODULES = "modules.json"
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_HEAD = "ForSequenceClassification"


def task_of_model(config: Mapping[str, Any], paths: Collection[str]) -> str | None:
    """The task by `config.json` and the paths of the model's files; None for a bare encoder."""
    architectures = config.get("architectures")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else []
    if any(name.endswith(_HEAD) for name in names):
        # A head with one output scores pairs; classes need two. transformers leaves out the labels when there are two.
        return TEXT_RANKING.name if _labels(config) == 1 else TEXT_CLASSIFICATION.name
    if _MODULES in paths:
        return SENTENCE_SIMILARITY.name
    return TEXT_GENERATION.name if any(name.endswith(_CAUSAL) for name in names) else None


def _labels(config: Mapping[str, Any]) -> int:
    labels = config.get("id2label")
    count = config.get("num_labels")
    return len(labels) if isinstance(labels, dict) else count if isinstance(count, int) and count else 2
