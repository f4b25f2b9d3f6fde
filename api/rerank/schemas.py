"""The shapes of reranking. Version 1 is Jina's, which vLLM and llama.cpp share; version 2 is Cohere's."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from api.inference.engine import ModelName
from api.inference.texts import Text, TruncatedTexts
from jobspecs.dialects import COHERE_RERANK, JINA_RERANK, Request

DOCUMENTS_MAX = 1024


class Document(BaseModel):
    """A document written as an object: its text ranks it, its other fields come back with it."""

    model_config = ConfigDict(extra="allow")

    text: Text


Documents = Annotated[list[Text | Document], Field(min_length=1, max_length=DOCUMENTS_MAX)]
TopN = Annotated[int | None, Field(ge=1, description="the best documents only")]


class RerankRequest(Request):
    """POST /v1/rerank."""

    dialect = JINA_RERANK

    model: ModelName
    query: Text
    documents: Documents
    top_n: TopN = None
    return_documents: bool = Field(default=True, description="repeat the text of each document")
    truncate: bool = Field(default=True, description="cut documents that are too long; false: they are refused")


class CohereRequest(Request):
    """POST /v2/rerank."""

    dialect = COHERE_RERANK

    model: ModelName
    query: Text
    documents: Documents
    top_n: TopN = None
    max_tokens_per_doc: int | None = Field(
        default=None, ge=1, description="tokens of each document that count; the model's reach ends where it ends"
    )


class Ranked(BaseModel):
    """`index`: the document's place in the request. `relevance_score`: 0 to 1."""

    index: int
    relevance_score: float


class RankedDocument(Ranked):
    document: Document | None = None


class RerankUsage(BaseModel):
    """Tokens that went through the model; the query counts once per document."""

    prompt_tokens: int
    total_tokens: int
    truncated_texts: TruncatedTexts = None


class RerankResponse(BaseModel):
    """The best document first."""

    id: str
    model: str
    version: int
    usage: RerankUsage
    results: list[RankedDocument]


class CohereVersion(BaseModel):
    version: str = "2"


class BilledUnits(BaseModel):
    search_units: int = 1


class Meta(BaseModel):
    api_version: CohereVersion = CohereVersion()
    billed_units: BilledUnits = BilledUnits()
    warnings: list[str] | None = None


class CohereResponse(BaseModel):
    """The best document first."""

    id: str
    results: list[Ranked]
    meta: Meta = Meta()


class Scored(BaseModel):
    """One entry of an engine's answer to /rerank, which comes best first."""

    index: int
    score: float
