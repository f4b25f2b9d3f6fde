"""The shapes of embeddings, as OpenAI's clients write and read them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator

from api.inference.engine import ModelName
from api.inference.texts import Text, TruncatedTexts
from jobspecs.dialects import OPENAI_EMBEDDINGS, Request

TEXTS_MAX = 2048


class EmbeddingsRequest(Request):
    dialect = OPENAI_EMBEDDINGS

    model: ModelName
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=TEXTS_MAX)]
    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="base64: the bytes of float32 numbers, little-endian"
    )
    dimensions: int | None = Field(default=None, ge=1, description="the first so many numbers only")
    prompt_name: str | None = Field(default=None, max_length=200, description="a prompt of the model, such as query")
    truncate: bool = Field(default=False, description="cut texts that are too long; else they are refused")

    @field_validator("input", mode="before")
    @classmethod
    def texts_only(cls, value: Any) -> Any:
        """Numbers of tokens are those of one tokenizer, usually not the model's."""
        if isinstance(value, list) and any(isinstance(item, int | list) for item in value):
            raise ValueError(
                "send texts; numbers of tokens are not taken, because they are another tokenizer's "
                "(LangChain: check_embedding_ctx_length=False)"
            )
        return value


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    #: Numbers, or their base64.
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens that went through the model, those of the model's own prompts included."""

    prompt_tokens: int
    total_tokens: int
    truncated_texts: TruncatedTexts = None


class EmbeddingsResponse(BaseModel):
    """One embedding per text, in the order of the input, of length 1."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    version: int
    usage: EmbeddingUsage
