"""Asks a deployed embedder."""

from __future__ import annotations

import base64
import struct

import httpx

from api.embeddings.schemas import Embedding, EmbeddingsRequest, EmbeddingsResponse, EmbeddingUsage
from api.inference.engine import Deployed, ask, deployed, tokens_of, truncated_by, version_of, wrong_answer
from api.parts import Parts
from jobspecs.rights import Principal
from jobspecs.tasks import SENTENCE_SIMILARITY

_FLOAT_BYTES = 4


async def embed(parts: Parts, user: Principal, request: EmbeddingsRequest) -> EmbeddingsResponse:
    """Raises ApiError: 404 without such a deployment, 422 when it is no embedder, 429 and 503 while it can't.

    400 for texts that are longer than the model reads, unless they may be cut.
    """
    engine = await deployed(parts, user, request.model, SENTENCE_SIMILARITY)
    texts = [request.input] if isinstance(request.input, str) else request.input
    wish = {
        "inputs": texts,
        "dimensions": request.dimensions,
        "prompt_name": request.prompt_name,
        "truncate": request.truncate,
    }
    response = await ask(parts, engine, "/encode", wish)
    vectors = _vectors(engine, response, len(texts))
    tokens = tokens_of(response)
    return EmbeddingsResponse(
        data=[
            Embedding(index=index, embedding=_written(vector, request.encoding_format))
            for index, vector in enumerate(vectors)
        ],
        model=request.model,
        version=version_of(response, engine),
        usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens, truncated_texts=truncated_by(response)),
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
