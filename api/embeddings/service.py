"""Asks a deployed embedder."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import httpx

from api.embeddings.schemas import (
    CohereEmbedMeta,
    CohereEmbedRequest,
    CohereEmbedResponse,
    CohereEmbedUnits,
    Embedding,
    EmbeddingsRequest,
    EmbeddingsResponse,
    EmbeddingUsage,
)
from api.errors import ApiError
from api.inference.engine import Deployed, ask, deployed, tokens_of, truncated_by, version_of, wrong_answer
from api.parts import Parts
from jobspecs.rights import Principal
from jobspecs.tasks import SENTENCE_SIMILARITY

_FLOAT_BYTES = 4
#: Cohere's kind of input -> names under which models keep the prompt for it.
_PROMPTS = MappingProxyType(
    {
        "search_query": ("query", "search_query"),
        "search_document": ("document", "passage", "search_document"),
        "classification": ("classification",),
        "clustering": ("clustering",),
    }
)


@dataclass(frozen=True)
class _Embedded:
    """The bytes of each text's vector, float32 in little-endian order, and what the engine says of them."""

    vectors: list[bytes]
    version: int
    #: That went through the model.
    tokens: int
    #: Texts that were cut; None for none.
    truncated: int | None


async def embed(parts: Parts, user: Principal, request: EmbeddingsRequest) -> EmbeddingsResponse:
    """Raises ApiError: 404 without such a deployment, 422 when it is no embedder, 429 and 503 while it can't.

    400 for texts that are longer than the model reads, unless they may be cut.
    """
    engine = await deployed(parts, user, request.model, SENTENCE_SIMILARITY)
    if request.holds_tokens:
        _check_tokenizer(engine, request)
    wish = {
        "inputs": request.items,
        "dimensions": request.dimensions,
        "prompt_name": request.prompt_name,
        "truncate": request.truncate,
    }
    found = await _embedded(parts, engine, wish)
    return EmbeddingsResponse(
        data=[
            Embedding(index=index, embedding=_written(vector, request.encoding_format))
            for index, vector in enumerate(found.vectors)
        ],
        model=request.model,
        version=found.version,
        usage=EmbeddingUsage(prompt_tokens=found.tokens, total_tokens=found.tokens, truncated_texts=found.truncated),
    )


async def embed_as_cohere(parts: Parts, user: Principal, request: CohereEmbedRequest) -> CohereEmbedResponse:
    """As `embed`, of texts."""
    engine = await deployed(parts, user, request.model, SENTENCE_SIMILARITY)
    wish = {
        "inputs": request.items,
        "dimensions": request.output_dimension,
        "prompt_names": _PROMPTS.get(request.input_type or "", ()),
        "truncate": request.truncate == "END",
    }
    found = await _embedded(parts, engine, wish)
    cut = found.truncated
    return CohereEmbedResponse(
        id=uuid4().hex,
        embeddings={kind: [_written(vector, kind) for vector in found.vectors] for kind in request.embedding_types},
        texts=request.items,
        meta=CohereEmbedMeta(
            billed_units=CohereEmbedUnits(input_tokens=found.tokens),
            warnings=[f"texts cut because the model reads fewer tokens: {cut}"] if cut else None,
        ),
    )


async def _embedded(parts: Parts, engine: Deployed, wish: Mapping[str, Any]) -> _Embedded:
    response = await ask(parts, engine, "/encode", wish)
    vectors = _vectors(engine, response, len(wish["inputs"]))
    return _Embedded(vectors, version_of(response, engine), tokens_of(response), truncated_by(response))


def _check_tokenizer(engine: Deployed, request: EmbeddingsRequest) -> None:
    """Raises ApiError 422 where the tokens are said to be another model's."""
    own = {request.model, engine.model, engine.model.rpartition("@")[0]}
    if request.tokenizer not in own:
        raise ApiError(
            422,
            f"tokenizer: the tokens are those of {request.tokenizer}, and {request.model} has its own tokenizer. "
            "Send the texts.",
            param="tokenizer",
        )


def _vectors(engine: Deployed, response: httpx.Response, texts: int) -> list[bytes]:
    """The bytes of each vector, float32 in little-endian order."""
    dimensions = response.headers.get("x-dimensions", "")
    width_bytes = _FLOAT_BYTES * int(dimensions) if dimensions.isdecimal() else 0
    content = response.content
    if not width_bytes or len(content) != texts * width_bytes:
        raise wrong_answer(engine.name, f"gave {len(content)} bytes of {dimensions} dimensions for {texts} texts")
    return [content[start : start + width_bytes] for start in range(0, len(content), width_bytes)]


def _written(vector: bytes, encoding_format: str) -> list[float] | str:
    if encoding_format == "base64":
        return base64.b64encode(vector).decode("ascii")
    return list(struct.unpack(f"<{len(vector) // _FLOAT_BYTES}f", vector))
