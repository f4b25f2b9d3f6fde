"""The runner of each job kind. A new kind adds one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from jobspecs.manifest import Manifest
from workers.run.context import RunContext
from workers.runners import (
    finetune_llm,
    import_model,
    merge,
    predict,
    quantize,
    score_pairs,
    train_classifier,
    train_embedder,
    train_reranker,
)

RUNNERS: Mapping[str, Callable[[RunContext], Manifest]] = MappingProxyType(
    {
        "train-classifier": train_classifier.run,
        "train-embedder": train_embedder.run,
        "train-reranker": train_reranker.run,
        "score-pairs": score_pairs.run,
        "predict": predict.run,
        "finetune-llm": finetune_llm.run,
        "import-model": import_model.run,
        "merge": merge.run,
        "quantize": quantize.run,
    }
)

#: What the libraries import at first use only: a warm process loads it beforehand, so that a job starts at once.
PRELOAD = (
    "transformers.models.llama.modeling_llama",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "transformers.models.distilbert.modeling_distilbert",
    "transformers.models.modernbert.modeling_modernbert",
    "transformers.models.roberta.modeling_roberta",
    "transformers.models.xlm_roberta.modeling_xlm_roberta",
    "transformers.models.xlm_roberta.tokenization_xlm_roberta",
)
