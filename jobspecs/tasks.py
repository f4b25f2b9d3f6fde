"""The tasks that deployed models serve, by the name in their manifests. One task = one line here, and one in the
engine's registry (`workers/engines/embedded/tasks/registry.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class ServedTask:
    """A task and where it is served."""

    #: As in `Manifest.task`.
    name: str
    #: What a model for it is called, with its article.
    noun: str
    #: Where the API serves it; the first is the one to name when somebody asked elsewhere.
    routes: tuple[str, ...]

    @property
    def route(self) -> str:
        return self.routes[0]


TEXT_CLASSIFICATION = ServedTask("text-classification", "a classifier", ("POST /v1/classify", "POST /v1/decisions"))
SENTENCE_SIMILARITY = ServedTask("sentence-similarity", "an embedder", ("POST /v1/embeddings",))
TEXT_RANKING = ServedTask("text-ranking", "a reranker", ("POST /v1/rerank", "POST /v2/rerank"))
TEXT_GENERATION = ServedTask(
    "text-generation",
    "a language model",
    ("POST /v1/chat/completions", "POST /v1/completions", "POST /v1/responses"),
)

SERVED_TASKS: Mapping[str, ServedTask] = MappingProxyType(
    {
        task.name: task
        for task in (
            TEXT_CLASSIFICATION,
            SENTENCE_SIMILARITY,
            TEXT_RANKING,
            TEXT_GENERATION,
        )
    }
)
