"""The tasks that the embedded engine serves, by the name in a manifest (`jobspecs.tasks` has the same names)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from jobspecs.tasks import SENTENCE_SIMILARITY, TEXT_CLASSIFICATION, TEXT_GENERATION, TEXT_RANKING
from workers.engines.embedded.tasks.classifier import ServedClassifier
from workers.engines.embedded.tasks.embedder import ServedEmbedder
from workers.engines.embedded.tasks.language_model import ServedLanguageModel
from workers.engines.embedded.tasks.reranker import ServedReranker
from workers.engines.embedded.tasks.served import ServedModel
from workers.engines.interface import EngineOrder

#: Task -> how its models are loaded. Called once per process, on the main thread, after the files were checked, with
#: the order's threads for torch to be set. Raises RunFailed when the artifact can't be served.
LOADERS: Mapping[str, Callable[[EngineOrder], ServedModel]] = MappingProxyType(
    {
        TEXT_CLASSIFICATION.name: ServedClassifier.load,
        SENTENCE_SIMILARITY.name: ServedEmbedder.load,
        TEXT_RANKING.name: ServedReranker.load,
        TEXT_GENERATION.name: ServedLanguageModel.load,
    }
)
