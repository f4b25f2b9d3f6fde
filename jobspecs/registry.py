"""The job kinds. A new one is a spec file with a line here, and a runner with a line in `workers.runners.registry`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from jobspecs.kinds.base import SpecBase
from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.kinds.import_model import ImportModel
from jobspecs.kinds.score_pairs import ScorePairs
from jobspecs.kinds.train_classifier import TrainClassifier
from jobspecs.kinds.train_embedder import TrainEmbedder
from jobspecs.kinds.train_reranker import TrainReranker
from jobspecs.problems import PROBLEMS_MAX, InvalidInput, Problem

#: Any job spec: one of the kinds below.
JobSpec = SpecBase

SPECS: Mapping[str, type[JobSpec]] = MappingProxyType(
    {
        "train-classifier": TrainClassifier,
        "train-embedder": TrainEmbedder,
        "train-reranker": TrainReranker,
        "score-pairs": ScorePairs,
        "finetune-llm": FinetuneLlm,
        "import-model": ImportModel,
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
    if not isinstance(kind, str) or kind not in SPECS:
        raise InvalidInput([Problem(field="kind", message=f"{kind!r} is no job kind.", remedy=f"One of: {known}.")])
    try:
        return SPECS[kind].model_validate(document)
    except ValidationError as error:
        raise InvalidInput(problems_of(error)) from error


def problems_of(error: ValidationError) -> list[Problem]:
    """A pydantic error as problems, one per field, without the machine's own words for types: PROBLEMS_MAX of them."""
    return [
        Problem(
            field=".".join(str(part) for part in detail["loc"]) or None,
            message=_in_words(detail["type"], detail["msg"]),
        )
        for detail in islice(error.errors(include_url=False, include_context=False, include_input=False), PROBLEMS_MAX)
    ]


def _in_words(error_type: str, message: str) -> str:
    if error_type == "extra_forbidden":
        return "unknown field; remove it or correct its spelling."
    if error_type == "missing":
        return "the field is missing."
    return message.removeprefix("Value error, ").rstrip(".") + "."
