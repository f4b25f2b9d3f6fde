"""Text classifiers: our /classify, and text-embeddings-inference's /predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobspecs.dialects import Request as Asked
from jobspecs.validation import EMPTY_TEXT
from workers.engines.embedded.dialects.lengths import Lengths
from workers.engines.embedded.dialects.requests import Text, Truncation, invalid, read
from workers.engines.embedded.dialects.tokenizing import TokenizeRoute
from workers.engines.embedded.tasks.served import Batched, Counted, in_groups, whole_lengths
from workers.engines.embedded.tasks.text_classifier import Scoring, load_text_classifier
from workers.engines.interface import EngineOrder

#: Most texts in one request.
TEXTS_MAX = 1024

#: Texts as the model reads them.
Read = TypeVar("Read", bound=Counted)


class Score(Protocol):
    """A label and its probability, as the classifier gives it."""

    @property
    def label(self) -> str: ...

    @property
    def score(self) -> float: ...


class Classified(NamedTuple):
    """The scores of one text, best first, and how many tokens the text has."""

    scores: Sequence[Score]
    tokens: int


class ClassifyingModel(Protocol[Read]):
    """What the routes need of a classifier."""

    @property
    def labels(self) -> Sequence[str]:
        """Class names, in the order of the model's outputs."""

    @property
    def max_tokens(self) -> int: ...

    def tokenize(self, texts: Sequence[str]) -> Read: ...

    def classify_tokens(self, tokens: Read, scoring: Scoring = "softmax") -> Sequence[Sequence[Score]]: ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Before any cut at `max_tokens`."""


class ClassifyBody(Asked):
    """POST /classify."""

    inputs: list[Text] = Field(min_length=1, max_length=TEXTS_MAX)
    #: How many labels per text, best first; all of them unless given.
    top_k: int | None = Field(default=None, ge=1)
    truncate: bool = True


class PredictParameters(Asked):
    """Of Hugging Face's clients."""

    top_k: int | None = Field(default=None, ge=1)
    function_to_apply: Scoring | None = None


class PredictBody(Truncation):
    """POST /predict. A list of strings is *one* pair of texts; a list of lists is a batch."""

    inputs: Text | list[str] | list[list[str]]
    raw_scores: bool = False
    #: Hugging Face's clients send them always, if empty, and want a list of labels for each text, also for one text.
    parameters: PredictParameters | None = None

    @property
    def scoring(self) -> Scoring:
        asked = self.parameters.function_to_apply if self.parameters is not None else None
        return asked or ("none" if self.raw_scores else "softmax")


class ServedClassifier(Batched[tuple[Scoring, str], Classified]):
    """A classifier and its routes."""

    def __init__(self, model: ClassifyingModel[Any], tokenize: TokenizeRoute) -> None:
        self._model = model
        self._tokenize = tokenize
        super().__init__(self._classify_batch, model.max_tokens)

    @classmethod
    def load(cls, order: EngineOrder) -> ServedClassifier:
        """Raises RunFailed(invalid_model) when the artifact is no complete classifier."""
        return cls(load_text_classifier(order.model_dir, order.threads), TokenizeRoute(order.model_dir))

    def routes(self) -> list[Route]:
        return [
            Route("/classify", self._classify, methods=["POST"]),
            Route("/predict", self._predict, methods=["POST"]),
            Route("/", self._predict, methods=["POST"]),
            *self._tokenize.routes(),
        ]

    def info(self) -> dict[str, Any]:
        labels = {str(number): label for number, label in enumerate(self._model.labels)}
        numbers = {label: number for number, label in enumerate(self._model.labels)}
        return {
            "model_type": {"classifier": {"id2label": labels, "label2id": numbers}},
            "max_input_length": self._model.max_tokens,
            "max_client_batch_size": TEXTS_MAX,
        }

    async def _classify(self, request: Request) -> Response:
        body = await read(ClassifyBody, request)
        found = await self.batcher.submit([("softmax", text) for text in body.inputs])
        lengths = self._lengths(found)
        lengths.check("input", truncate=body.truncate)
        return JSONResponse({"results": _written(found, body.top_k)}, headers=lengths.headers)

    async def _predict(self, request: Request) -> Response:
        body = await read(PredictBody, request)
        found = await self.batcher.submit([(body.scoring, text) for text in _predict_texts(body)])
        lengths = self._lengths(found)
        lengths.check("inputs", truncate=bool(body.truncate))
        results = _written(found, body.parameters.top_k if body.parameters is not None else None)
        bare = isinstance(body.inputs, str) and body.parameters is None
        return JSONResponse(results[0] if bare else results, headers=lengths.headers)

    def _classify_batch(self, items: Sequence[tuple[Scoring, str]]) -> list[Classified]:
        return in_groups(items, self._classify_alike)

    def _classify_alike(self, scoring: Scoring, texts: list[str]) -> list[Classified]:
        tokens = self._model.tokenize(texts)
        scores = self._model.classify_tokens(tokens, scoring)
        lengths = whole_lengths(tokens, texts, self._model.max_tokens, self._model.count_tokens)
        return [Classified(*found) for found in zip(scores, lengths, strict=True)]

    def _lengths(self, found: Sequence[Classified]) -> Lengths:
        return Lengths([one.tokens for one in found], self._model.max_tokens)


def _written(found: Sequence[Classified], top_k: int | None) -> list[list[dict[str, Any]]]:
    return [[{"label": score.label, "score": score.score} for score in one.scores[:top_k]] for one in found]


def _predict_texts(body: PredictBody) -> list[str]:
    body.check()
    if isinstance(body.inputs, str):
        return [body.inputs]
    texts = [entry[0] for entry in body.inputs if isinstance(entry, list) and len(entry) == 1]
    if len(texts) != len(body.inputs):
        raise invalid("inputs", 'this model takes single texts, not pairs. A batch is a list of lists: [["a"], ["b"]].')
    if not 1 <= len(texts) <= TEXTS_MAX:
        raise invalid("inputs", f"send 1 to {TEXTS_MAX} texts.")
    if "" in texts:
        # Not by their type: of which alternative a list is, pydantic can't tell by an empty text.
        raise invalid(f"inputs[{texts.index('')}][0]", f"{EMPTY_TEXT}.")
    return texts
