"""The job kinds. A new one is a spec file with a line here, and a runner with a line in `workers.runners.registry`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from jobspecs.kinds.base import SpecBase
from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.kinds.import_model import ImportModel
from jobspecs.kinds.merge import Merge
from jobspecs.kinds.predict import Predict
from jobspecs.kinds.quantize import Quantize
from jobspecs.kinds.score_pairs import ScorePairs
from jobspecs.kinds.train_classifier import TrainClassifier
from jobspecs.kinds.train_embedder import TrainEmbedder
from jobspecs.kinds.train_reranker import TrainReranker
from jobspecs.problems import InvalidInput, Problem
from jobspecs.validation import problems_of

#: Any job spec: one of the kinds below.
JobSpec = SpecBase

SPECS: Mapping[str, type[JobSpec]] = MappingProxyType(
    {
        "train-classifier": TrainClassifier,
        "train-embedder": TrainEmbedder,
        "train-reranker": TrainReranker,
        "score-pairs": ScorePairs,
        "predict": Predict,
        "finetune-llm": FinetuneLlm,
        "import-model": ImportModel,
        "merge": Merge,
        "quantize": Quantize,
    }
)


def parse_spec(document: Any) -> JobSpec:
    """Makes a typed spec of plain JSON. Raises InvalidInput naming each field that is wrong."""
    if not isinstance(document, dict):
        raise InvalidInput(
            [Problem(message="a job spec is an object with fields.", remedy="Start with: kind: train-classifier")]
        )
    kind = document.get("kind")
    known = ", ".join(SPECS)
    if kind is None:
        raise InvalidInput([Problem(field="kind", message="the field is missing.", remedy=f"One of: {known}.")])
    if kind == "pipeline":
        remedy = "Submit it as what it is: eigenwerk pipelines submit FILE, or POST /v1/pipelines."
        raise InvalidInput([Problem(field="kind", message="a pipeline is no job, but several.", remedy=remedy)])
    if kind == "sweep":
        remedy = "Submit it as what it is: eigenwerk sweep FILE, or POST /v1/sweeps."
        raise InvalidInput([Problem(field="kind", message="a sweep is no job, but many.", remedy=remedy)])
    if not isinstance(kind, str) or kind not in SPECS:
        raise InvalidInput([Problem(field="kind", message=f"{kind!r} is no job kind.", remedy=f"One of: {known}.")])
    try:
        return SPECS[kind].model_validate(document)
    except ValidationError as error:
        raise InvalidInput(problems_of(error, document)) from error
