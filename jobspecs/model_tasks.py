"""What a model can serve, read from its own configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from jobspecs.problems import InvalidInput, Problem
from jobspecs.tasks import SENTENCE_SIMILARITY, TEXT_CLASSIFICATION, TEXT_GENERATION, TEXT_RANKING

#: What sentence-transformers writes beside config.json: the parts that make a vector of a text.
_MODULES = "modules.json"
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_HEAD = "ForSequenceClassification"
#: transformers makes a name for each, whether there is an output for it or not.
LABELS_MAX = 100_000


def task_of_model(config: Mapping[str, Any], paths: Collection[str]) -> str | None:
    """The task by `config.json` and the paths of the model's files; None for a bare encoder.

    Raises InvalidInput when the configuration of a head has no possible number of outputs.
    """
    architectures = config.get("architectures")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else []
    if any(name.endswith(_HEAD) for name in names):
        # A head with one output scores pairs; classes need two. transformers leaves out the labels when there are two.
        return TEXT_RANKING.name if _labels(config) == 1 else TEXT_CLASSIFICATION.name
    if _MODULES in paths:
        return SENTENCE_SIMILARITY.name
    return TEXT_GENERATION.name if any(name.endswith(_CAUSAL) for name in names) else None


def _labels(config: Mapping[str, Any]) -> int:
    """How many outputs the head has: as many as there are names, or as `num_labels` says."""
    names, count = config.get("id2label"), config.get("num_labels")
    if not (count is None or (type(count) is int and 0 < count <= LABELS_MAX)):
        raise _refused("num_labels", f"num_labels must be a whole number from 1 to {LABELS_MAX:,}.")
    if not (names is None or (isinstance(names, dict) and 0 < len(names) <= LABELS_MAX)):
        raise _refused("id2label", f"id2label must be an object of 1 to {LABELS_MAX:,} names.")
    return len(names) if names is not None else count or 2


def _refused(field: str, message: str) -> InvalidInput:
    remedy = "Save the model again with the library that trained it."
    return InvalidInput([Problem(file="config.json", field=field, message=message, remedy=remedy)])
