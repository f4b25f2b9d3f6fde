"""The shapes of embeddings, as OpenAI's clients write and read them."""

from __future__ import annotations

from typing import Annotated, Literal, LiteralString, Self

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from api.inference.engine import ModelName
from api.inference.texts import Text, TruncatedTexts
from jobspecs.dialects import COHERE_EMBED, OPENAI_EMBEDDINGS, Request

TEXTS_MAX = 2048


#: Most tokens of one text.
TOKENS_MAX = 131_072
Token = Annotated[int, Field(ge=0, lt=1 << 32)]
#: A text as tokens; such a list ends at the first item that is none.
Tokens = Annotated[list[Token], Field(min_length=1, max_length=TOKENS_MAX, fail_fast=True)]
_TOKENS_ALONE: LiteralString = (
    "send texts; numbers of tokens are taken only where `tokenizer` names this model, because they are mostly another "
    "tokenizer's (LangChain: check_embedding_ctx_length=False)"
)
TokenLists = Annotated[list[Tokens], Field(min_length=1, max_length=TEXTS_MAX, fail_fast=True)]


class EmbeddingsRequest(Request):
    dialect = OPENAI_EMBEDDINGS

    model: ModelName
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=TEXTS_MAX)] | Tokens | TokenLists
    tokenizer: str | None = Field(
        default=None,
        max_length=300,
        description="whose tokens `input` holds, where it holds tokens and no texts: the model, as in `model`",
    )
    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="base64: the bytes of float32 numbers, little-endian"
    )
    dimensions: int | None = Field(default=None, ge=1, description="the first so many numbers only")
    prompt_name: str | None = Field(default=None, max_length=200, description="a prompt of the model, such as query")
    truncate: bool = Field(default=False, description="cut texts that are too long; else they are refused")

    @model_validator(mode="after")
    def tokens_have_a_tokenizer(self) -> Self:
        """Numbers of tokens are those of one tokenizer, usually not the model's."""
        if self.holds_tokens and self.tokenizer is None:
            words = PydanticCustomError("tokens", _TOKENS_ALONE)
            detail = InitErrorDetails(type=words, loc=("input",), input=None)
            raise ValidationError.from_exception_data(type(self).__name__, [detail])
        return self

    @property
    def holds_tokens(self) -> bool:
        return isinstance(self.input, list) and any(not isinstance(item, str) for item in self.input)

    @property
    def items(self) -> list[str | list[int]]:
        """Each text, or its tokens."""
        if isinstance(self.input, str):
            return [self.input]
        if all(isinstance(item, int) for item in self.input):
            return [[item for item in self.input if isinstance(item, int)]]
        return [item for item in self.input if not isinstance(item, int)]


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


class CoherePart(Request):
    """A piece of an input; pictures are not read."""

    type: Literal["text"]
    text: Text


class CohereInput(Request):
    """A text in pieces."""

    content: Annotated[list[CoherePart], Field(min_length=1, max_length=TEXTS_MAX)]


class CohereEmbedRequest(Request):
    """POST /v2/embed, of texts: `texts`, or `inputs` whose pieces are joined."""

    dialect = COHERE_EMBED

    model: ModelName
    texts: Annotated[list[Text], Field(min_length=1, max_length=TEXTS_MAX)] | None = None
    inputs: Annotated[list[CohereInput], Field(max_length=TEXTS_MAX)] | None = None
    input_type: Literal["search_document", "search_query", "classification", "clustering"] | None = Field(
        default=None, description="the model's prompt of that kind is put before each text, if it has one"
    )
    embedding_types: Annotated[
        list[Literal["float", "base64"]], Field(min_length=1, max_length=2, default_factory=lambda: ["float"])
    ]
    output_dimension: int | None = Field(default=None, ge=1)
    truncate: Literal["NONE", "END"] = Field(default="END", description="NONE: texts that are too long are refused")

    @model_validator(mode="after")
    def has_texts(self) -> Self:
        if bool(self.texts) == bool(self.inputs):
            words = PydanticCustomError("texts", "send texts, or inputs of texts, and not both")
            detail = InitErrorDetails(type=words, loc=("texts",), input=None)
            raise ValidationError.from_exception_data(type(self).__name__, [detail])
        return self

    @property
    def items(self) -> list[str]:
        """Each text."""
        return self.texts or ["".join(part.text for part in item.content) for item in self.inputs or ()]


class CohereEmbedUnits(BaseModel):
    input_tokens: int


class CohereEmbedVersion(BaseModel):
    version: str = "2"


class CohereEmbedMeta(BaseModel):
    api_version: CohereEmbedVersion = CohereEmbedVersion()
    billed_units: CohereEmbedUnits
    warnings: list[str] | None = None


class CohereEmbedResponse(BaseModel):
    """Type -> one embedding per text, in the order of the input."""

    id: str
    response_type: Literal["embeddings_by_type"] = "embeddings_by_type"
    embeddings: dict[str, list[list[float] | str]]
    texts: list[str]
    meta: CohereEmbedMeta
