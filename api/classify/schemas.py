"""The shapes of classification."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from api.inference.engine import ModelName
from api.inference.texts import Text, TruncatedTexts
from jobspecs.dialects import CLASSIFY, Request

TEXTS_MAX = 1024


class ClassifyRequest(Request):
    dialect = CLASSIFY

    model: ModelName
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=TEXTS_MAX)]
    top_k: int | None = Field(default=None, ge=1, le=1000, description="the best labels only")
    truncate: bool = Field(default=True, description="cut texts that are too long, as in training; false: refuse them")


class LabelScore(BaseModel):
    label: str
    score: float


class ClassifyResponse(BaseModel):
    """One list per text, in the order of the input; labels by falling score."""

    model: str
    version: int
    results: list[list[LabelScore]]
    truncated_texts: TruncatedTexts = None


class EngineAnswer(BaseModel):
    """What an engine's /classify answers."""

    results: list[list[LabelScore]]
