"""Rerankers: text-embeddings-inference's /rerank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from workers.engines.embedded.device import take_device
from workers.engines.embedded.dialects.lengths import Lengths
from workers.engines.embedded.dialects.requests import Text, Truncation, read
from workers.engines.embedded.dialects.tokenizing import TokenizeRoute
from workers.engines.embedded.tasks.served import Batched, in_groups, whole_lengths
from workers.engines.interface import EngineOrder
from workers.local_models.ranking_model import load_reranker
from workers.local_models.tokens import TokenTable

#: Most texts in one request.
TEXTS_MAX = 1024

#: The query and a text.
Pair = tuple[str, str]


class RankingModel(Protocol):
    """What the routes need of a reranker."""

    @property
    def max_tokens(self) -> int: ...

    def tokenize(self, pairs: Sequence[Pair]) -> TokenTable: ...

    def score_tokens(
        self, tokens: TokenTable, *, raw: bool = False, after_batch: Callable[[int], None] = ...
    ) -> npt.NDArray[np.float32]:
        """One score per pair, 0 to 1, or the model's logits if `raw`; `after_batch` is told how many are done."""

    def count_whole_tokens(self, pairs: Sequence[Pair]) -> list[int]:
        """Before any cut at `max_tokens`."""

    def cut_texts(self, texts: Sequence[str], max_tokens: int) -> list[str]: ...


class Wish(NamedTuple):
    """How a pair should be scored; `text_tokens`: how many of its text's tokens count."""

    raw: bool
    text_tokens: int | None = None


class Relevance(NamedTuple):
    """The score of a pair, and how many tokens the pair has; the model has seen `max_tokens` of them at most."""

    score: float
    tokens: int


class RerankBody(Truncation):
    """POST /rerank."""

    query: Text
    texts: list[Text] = Field(min_length=1, max_length=TEXTS_MAX)
    raw_scores: bool = False
    return_text: bool = False
    #: Of each text only so many tokens count, as Cohere's requests can say; not TEI's.
    max_tokens_per_text: int | None = Field(default=None, ge=1)


class ServedReranker(Batched[tuple[Wish, Pair], Relevance]):
    """A reranker and its routes."""

    def __init__(self, model: RankingModel, tokenize: TokenizeRoute) -> None:
        self._model = model
        self._tokenize = tokenize
        super().__init__(self._score_batch, model.max_tokens)

    @classmethod
    def load(cls, order: EngineOrder) -> ServedReranker:
        """Raises RunFailed(invalid_model) when the artifact is no complete reranker."""
        return cls(load_reranker(order.model_dir, take_device(order.threads)), TokenizeRoute(order.model_dir))

    def routes(self) -> list[Route]:
        return [
            Route("/rerank", self._rerank, methods=["POST"]),
            Route("/", self._rerank, methods=["POST"]),
            *self._tokenize.routes(),
        ]

    def info(self) -> dict[str, Any]:
        return {
            "model_type": {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
            "max_input_length": self._model.max_tokens,
            "max_client_batch_size": TEXTS_MAX,
        }

    async def _rerank(self, request: Request) -> Response:
        body = await read(RerankBody, request)
        body.check()
        wish = Wish(body.raw_scores, body.max_tokens_per_text)
        found = await self.batcher.submit([(wish, (body.query, text)) for text in body.texts])
        lengths = Lengths([relevance.tokens for relevance in found], self._model.max_tokens)
        lengths.check("texts", truncate=bool(body.truncate))
        ranked = sorted(range(len(found)), key=lambda index: -found[index].score)
        return JSONResponse(
            [
                {
                    "index": index,
                    **({"text": body.texts[index]} if body.return_text else {}),
                    "score": found[index].score,
                }
                for index in ranked
            ],
            headers=lengths.headers,
        )

    def _score_batch(self, items: Sequence[tuple[Wish, Pair]]) -> list[Relevance]:
        return in_groups(items, self._score_alike)

    def _score_alike(self, wish: Wish, pairs: list[Pair]) -> list[Relevance]:
        if wish.text_tokens is not None:
            texts = self._model.cut_texts([text for _, text in pairs], wish.text_tokens)
            pairs = [(query, text) for (query, _), text in zip(pairs, texts, strict=True)]
        tokens = self._model.tokenize(pairs)
        scores = self._model.score_tokens(tokens, raw=wish.raw, after_batch=lambda _: self.batcher.note_progress())
        lengths = whole_lengths(tokens, pairs, self._model.max_tokens, self._model.count_whole_tokens)
        return [Relevance(float(score), length) for score, length in zip(scores, lengths, strict=True)]
