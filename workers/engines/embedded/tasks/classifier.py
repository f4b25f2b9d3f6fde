"""Text classifiers: our /classify, and text-embeddings-inference's /predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobspecs.dialects import Request as Asked
from workers.engines.embedded.batching import Batcher
from workers.engines.embedded.dialects.requests import Truncation, answer, invalid, read
from workers.engines.embedded.dialects.tokenizing import TokenizeRoute
from workers.engines.embedded.tasks.served import Batched
from workers.engines.embedded.tasks.text_classifier import Classifier
from workers.engines.interface import EngineOrder

#: Most texts in one request.
TEXTS_MAX = 1024


class Score(Protocol):
    """A label and its probability, as the classifier gives it."""

    @property
    def label(self) -> str: ...

    @property
    def score(self) -> float: ...


#: The scores of one text, best first.
Scores = Sequence[Score]


class ClassifyBody(Asked):
    """POST /classify."""

    inputs: list[str] = Field(min_length=1, max_length=TEXTS_MAX)
    #: How many labels per text, best first; all of them unless given.
    top_k: int | None = Field(default=None, ge=1)


class PredictBody(Truncation):
    """POST /predict. A list of strings is *one* pair of texts; a list of lists is a batch."""

    inputs: str | list[str] | list[list[str]]
    raw_scores: bool = False


class ServedClassifier(Batched[str, Scores]):
    """A classifier and its routes."""

    def __init__(self, labels: Sequence[str], batcher: Batcher[str, Scores], tokenize: TokenizeRoute) -> None:
        super().__init__(batcher)
        #: Class names, in the order of the model's outputs.
        self._labels = tuple(labels)
        self._tokenize = tokenize

    @classmethod
    def load(cls, order: EngineOrder) -> ServedClassifier:
        """Raises RunFailed(invalid_model) when the artifact is no complete classifier."""
        classifier = Classifier.load(order.model_dir, order.threads)
        return cls(classifier.labels, Batcher(classifier.classify), TokenizeRoute(order.model_dir))

    def routes(self) -> list[Route]:
        return [
            Route("/classify", self._classify, methods=["POST"]),
            Route("/predict", self._predict, methods=["POST"]),
            Route("/", self._predict, methods=["POST"]),
            *self._tokenize.routes(),
        ]

    def info(self) -> dict[str, Any]:
        labels = {str(number): label for number, label in enumerate(self._labels)}
        numbers = {label: number for number, label in enumerate(self._labels)}
        return {
            "model_type": {"classifier": {"id2label": labels, "label2id": numbers}},
            "max_client_batch_size": TEXTS_MAX,
        }

    async def _classify(self, request: Request) -> Response:
        body = await read(ClassifyBody, request)
        results = await self.batcher.submit(body.inputs)
        top = [[{"label": score.label, "score": score.score} for score in scores[: body.top_k]] for scores in results]
        return answer({"results": top})

    async def _predict(self, request: Request) -> Response:
        body = await read(PredictBody, request)
        results = await self.batcher.submit(_predict_texts(body))
        found = [[{"score": score.score, "label": score.label} for score in scores] for scores in results]
        return answer(found[0] if isinstance(body.inputs, str) else found)


def _predict_texts(body: PredictBody) -> list[str]:
    if body.raw_scores:
        raise invalid("raw_scores: this engine gives probabilities only. Leave it out.")
    body.check()
    if isinstance(body.inputs, str):
        return [body.inputs]
    texts = [entry[0] for entry in body.inputs if isinstance(entry, list) and len(entry) == 1]
    if len(texts) != len(body.inputs):
        raise invalid('This model takes single texts, not pairs. A batch is a list of lists: [["a"], ["b"]].')
    if not 1 <= len(texts) <= TEXTS_MAX:
        raise invalid(f"inputs: send 1 to {TEXTS_MAX} texts.")
    return texts
