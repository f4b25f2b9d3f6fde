"""The validator of each job kind. A new kind that reads a data set adds one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from corpus.checks.classifier import ClassifierData
from corpus.checks.embedder import EmbedderData
from corpus.checks.llm import LlmData
from corpus.checks.pairs import PairData
from corpus.checks.predict import PredictData
from corpus.checks.reader import Reader
from corpus.checks.reranker import RerankerData
from corpus.checks.rows import Validator
from corpus.checks.texts import TextData
from jobspecs.kinds.base import SpecBase

#: Kind -> what makes a validator of a spec of that kind and the base model's reader.
VALIDATORS: Mapping[str, Callable[[Any, Reader], Validator]] = MappingProxyType(
    {
        "finetune-llm": LlmData,
        "train-classifier": lambda spec, reader: ClassifierData(spec),
        "train-embedder": lambda spec, reader: EmbedderData(spec),
        "train-reranker": lambda spec, reader: RerankerData(spec),
        "quantize": lambda spec, reader: TextData(spec),
        "predict": lambda spec, reader: PredictData(spec),
        "score-pairs": lambda spec, reader: PairData(spec),
    }
)


def validator_of(spec: SpecBase, reader: Reader) -> Validator | None:
    """None for a kind that has nothing to check."""
    make = VALIDATORS.get(spec.kind)
    return make(spec, reader) if make is not None else None
