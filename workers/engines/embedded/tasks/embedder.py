"""Embedders: our /encode, and text-embeddings-inference's /embed and /similarity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, field_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobspecs.dialects import TEI
from jobspecs.dialects import Request as Asked
from workers.engines.embedded.device import take_device
from workers.engines.embedded.dialects.lengths import Lengths
from workers.engines.embedded.dialects.refusals import CONTEXT_LENGTH
from workers.engines.embedded.dialects.requests import Text, TokenId, Truncation, content_of, invalid, parsed, read
from workers.engines.embedded.dialects.tokenizing import TokenizeRoute
from workers.engines.embedded.tasks.served import Batched, in_groups, whole_lengths
from workers.engines.interface import EngineOrder
from workers.local_models.devices import move_to
from workers.local_models.embedding_model import load_embedder
from workers.local_models.tokens import TokenTable

#: Most texts in one request, as many as OpenAI takes.
TEXTS_MAX = 2048

Vector = npt.NDArray[np.float32]


class EmbeddingModel(Protocol):
    """What the routes need of an embedder."""

    @property
    def dimensions(self) -> int: ...

    @property
    def max_tokens(self) -> int: ...

    @property
    def prompts(self) -> Mapping[str, str]: ...

    def prompt(self, name: str | None) -> str:
        """What is put before each text."""

    def tokenize(self, texts: Sequence[str]) -> TokenTable:
        """Of texts with their prompts."""

    def encode_tokens(
        self,
        tokens: TokenTable,
        *,
        normalize: bool = True,
        dimensions: int | None = None,
        after_batch: Callable[[int], None] = ...,
    ) -> Vector:
        """One row per text. `after_batch` is told now and then how many are done."""

    def count_tokens(self, texts: Sequence[str], *, prompt_name: str | None = None) -> list[int]:
        """With the prompt, before any cut at `max_tokens`."""


class Wish(NamedTuple):
    """How a text should be embedded; what is wished alike goes through the model together."""

    prompt_name: str | None = None
    normalize: bool = True
    dimensions: int | None = None


class Embedding(NamedTuple):
    """The vector (D,) of a text, and how many tokens the text has; the model has seen `max_tokens` of them at most."""

    vector: Vector
    tokens: int


class EncodeBody(Asked):
    """POST /encode."""

    #: A text may come as the tokens that this model's tokenizer makes of it, without special ones.
    inputs: list[Text | Annotated[list[TokenId], Field(min_length=1)]] = Field(min_length=1, max_length=TEXTS_MAX)
    prompt_name: str | None = None
    #: Instead: the first of these that the model has.
    prompt_names: list[str] = Field(default_factory=list, max_length=8)
    normalize: bool = True
    dimensions: int | None = Field(default=None, ge=1)
    truncate: bool = False


class EmbedBody(Truncation):
    """POST /embed."""

    inputs: Text | list[Text]
    prompt_name: str | None = None
    normalize: bool = True
    dimensions: int | None = Field(default=None, ge=1)

    @field_validator("inputs", mode="before")
    @classmethod
    def texts_only(cls, value: Any) -> Any:
        """Numbers of tokens mean something for one tokenizer only, and nobody can check them."""
        if isinstance(value, list) and any(not isinstance(item, str) for item in value):
            raise ValueError("send texts; numbers of tokens are not taken")
        return value


class SimilarityInputs(Asked):
    source_sentence: Text
    sentences: list[Text] = Field(min_length=1, max_length=TEXTS_MAX - 1)


class SimilarityParameters(Truncation):
    prompt_name: str | None = None


class SimilarityBody(Asked):
    """POST /similarity."""

    dialect = TEI

    inputs: SimilarityInputs
    parameters: SimilarityParameters = SimilarityParameters()


class NativeBody(BaseModel):
    """POST /: an EmbedBody or a SimilarityBody, by the form of `inputs`."""

    inputs: Any


class ServedEmbedder(Batched[tuple[Wish, str], Embedding]):
    """An embedder and its routes."""

    def __init__(self, model: EmbeddingModel, tokenize: TokenizeRoute) -> None:
        self._model = model
        self._tokenize = tokenize
        super().__init__(self._embed_batch, model.max_tokens)

    @classmethod
    def load(cls, order: EngineOrder) -> ServedEmbedder:
        """Raises RunFailed(invalid_model) when the artifact is no complete embedder."""
        device = take_device(order.threads)
        model = load_embedder(order.model_dir)
        move_to(model.network, device)
        return cls(model, TokenizeRoute(order.model_dir))

    def routes(self) -> list[Route]:
        return [
            Route("/encode", self._encode, methods=["POST"]),
            Route("/embed", self._embed, methods=["POST"]),
            Route("/similarity", self._similarity, methods=["POST"]),
            Route("/", self._native, methods=["POST"]),
            *self._tokenize.routes(),
        ]

    def info(self) -> dict[str, Any]:
        return {
            "model_type": {"embedding": {"pooling": "model"}},
            "dimensions": self._model.dimensions,
            "prompts": sorted(self._model.prompts),
            "max_input_length": self._model.max_tokens,
            "max_client_batch_size": TEXTS_MAX,
        }

    async def _encode(self, request: Request) -> Response:
        body = await read(EncodeBody, request)
        texts = await self._tokenize.texts_of("input", body.inputs)
        own = next((name for name in body.prompt_names if name in self._model.prompts), body.prompt_name)
        found = await self._embedded(texts, Wish(own, body.normalize, body.dimensions))
        lengths = self._lengths(found)
        lengths.check("input", truncate=body.truncate, kind=CONTEXT_LENGTH)
        rows = np.stack([embedding.vector for embedding in found]).astype("<f4")
        headers = {"x-dimensions": str(rows.shape[1]), **lengths.headers}
        return Response(rows.tobytes(), media_type="application/octet-stream", headers=headers)

    async def _embed(self, request: Request) -> Response:
        return await self._answer_embed(await read(EmbedBody, request))

    async def _similarity(self, request: Request) -> Response:
        return await self._answer_similarity(await read(SimilarityBody, request))

    async def _native(self, request: Request) -> Response:
        content = await content_of(request)
        if isinstance(parsed(NativeBody, content).inputs, dict):
            return await self._answer_similarity(parsed(SimilarityBody, content))
        return await self._answer_embed(parsed(EmbedBody, content))

    async def _answer_embed(self, body: EmbedBody) -> Response:
        body.check()
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        if not 1 <= len(texts) <= TEXTS_MAX:
            raise invalid("inputs", f"send 1 to {TEXTS_MAX} texts.")
        found = await self._embedded(texts, Wish(body.prompt_name, body.normalize, body.dimensions))
        lengths = self._lengths(found)
        lengths.check("inputs", truncate=bool(body.truncate))
        return JSONResponse([embedding.vector.tolist() for embedding in found], headers=lengths.headers)

    async def _answer_similarity(self, body: SimilarityBody) -> Response:
        body.parameters.check()
        texts = [body.inputs.source_sentence, *body.inputs.sentences]
        source, *others = found = await self._embedded(texts, Wish(body.parameters.prompt_name))
        truncate = bool(body.parameters.truncate)
        self._lengths([source]).check("inputs.source_sentence", truncate=truncate)
        self._lengths(others).check("inputs.sentences", truncate=truncate)
        cosines = np.stack([other.vector for other in others]) @ source.vector
        return JSONResponse(cosines.tolist(), headers=self._lengths(found).headers)

    async def _embedded(self, texts: Sequence[str], wish: Wish) -> list[Embedding]:
        if wish.prompt_name is not None and wish.prompt_name not in self._model.prompts:
            known = ", ".join(sorted(self._model.prompts)) or "none"
            raise invalid("prompt_name", f"this model has no prompt {wish.prompt_name!r}. It has: {known}.")
        if wish.dimensions is not None and wish.dimensions > self._model.dimensions:
            raise invalid("dimensions", f"this model's vectors have {self._model.dimensions} numbers; ask for fewer.")
        return await self.batcher.submit([(wish, text) for text in texts])

    def _embed_batch(self, items: Sequence[tuple[Wish, str]]) -> list[Embedding]:
        return in_groups(items, self._embed_alike)

    def _embed_alike(self, wish: Wish, texts: list[str]) -> list[Embedding]:
        prompt = self._model.prompt(wish.prompt_name)
        tokens = self._model.tokenize([prompt + text for text in texts])
        vectors = self._model.encode_tokens(
            tokens,
            normalize=wish.normalize,
            dimensions=wish.dimensions,
            after_batch=lambda _: self.batcher.note_progress(),
        )
        count = partial(self._model.count_tokens, prompt_name=wish.prompt_name)
        lengths = whole_lengths(tokens, texts, self._model.max_tokens, count)
        return [Embedding(*found) for found in zip(vectors, lengths, strict=True)]

    def _lengths(self, found: Sequence[Embedding]) -> Lengths:
        return Lengths([embedding.tokens for embedding in found], self._model.max_tokens)
