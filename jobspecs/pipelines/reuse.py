"""Whether two jobs do the same: what their specs ask for and the content that they read, whatever it is called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from jobspecs.frozen import FrozenDataset, FrozenHubModel, FrozenInputs, FrozenModel

#: Fields that have no say in the result: those that decide when and where, and those that name an input.
_NO_SAY = (
    *("priority", "resources.memory_gib", "resources.gpu_memory_gib", "resources.max_runtime"),
    *("model", "dataset", "teacher", "bi_encoder", "hard_negatives.model", "validation.dataset", "test.dataset"),
)


def fingerprint(spec: Mapping[str, Any], inputs: FrozenInputs) -> str:
    """sha256 of all that decides what a job makes, but for the code that makes it. `spec`: as jobs keep it."""
    models = {role: _model(model) for role, model in inputs.by_role().items()}
    datasets = {role: _dataset(dataset) for role, dataset in inputs.datasets_by_role().items()}
    told = [_with_say(spec), models, datasets]
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _with_say(spec: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    return {
        name: _with_say(value, f"{place}{name}.") if isinstance(value, dict) else value
        for name, value in spec.items()
        if f"{place}{name}" not in _NO_SAY
    }


def _model(model: FrozenModel) -> list[str | None]:
    if isinstance(model, FrozenHubModel):
        return [model.repository, model.revision, model.gguf]
    return [model.digest]


def _dataset(dataset: FrozenDataset) -> list[Any]:
    read_as = dataset.how_to_read()
    # Its suffix tells the format.
    suffix = dataset.file_name.partition(".")[2]
    return [dataset.sha256, suffix, read_as.model_dump(mode="json") if read_as is not None else None]
