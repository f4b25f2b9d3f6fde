"""The shapes of decisions, as SGLang has them: questions about one input, each with the probability of every option."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, JsonValue

from api.inference.engine import ModelName
from api.inference.texts import TEXT_CHARS_MAX, Text
from jobspecs.dialects import DECISIONS, Request

QUESTIONS_MAX = 32
_OPTIONS_MAX, _LEVELS_MAX = 26, 10
#: Of an object or a list.
_VALUES_MAX = 1000

#: A text; objects and lists are read as compact JSON.
Said = (
    Annotated[str, Field(min_length=1, max_length=TEXT_CHARS_MAX)]
    | Annotated[dict[str, JsonValue], Field(min_length=1, max_length=_VALUES_MAX)]
    | Annotated[list[JsonValue], Field(min_length=1, max_length=_VALUES_MAX)]
)


class Option(Request):
    name: Text = Field(description="a label of the classifier")
    description: Said | None = None


class ChoiceQuestion(Request):
    """Which of these labels fits best."""

    id: Text
    type: Literal["choice"]
    question: Said
    options: Annotated[list[Option], Field(min_length=2, max_length=_OPTIONS_MAX)]


class ScoreQuestion(Request):
    """How far along labels that are an order, from 0."""

    id: Text
    type: Literal["score"]
    question: Said
    levels: Annotated[list[Text], Field(min_length=2, max_length=_LEVELS_MAX, description="labels, lowest first")]


class YesNoQuestion(Request):
    """One label against another."""

    id: Text
    type: Literal["yes_no"]
    question: Said
    yes: Text = Field(default="yes", description="the label that means yes")
    no: Text = Field(default="no", description="the label that means no")


Question = Annotated[ChoiceQuestion | ScoreQuestion | YesNoQuestion, Field(discriminator="type")]


class DecisionsRequest(Request):
    """POST /v1/decisions."""

    dialect = DECISIONS

    model: ModelName
    input: Said
    questions: Annotated[list[Question], Field(min_length=1, max_length=QUESTIONS_MAX)]
    temperature: float = Field(default=1.0, gt=0, description="above 1 evens the options out; not label_mass")


class Answer(BaseModel):
    """`label_mass`: the probability that the classifier gives to all labels of the question together."""

    type: Literal["choice", "score", "yes_no"]
    probabilities: dict[str, float]
    label_mass: float
    choice: str | None = None
    score: float | None = None


class DecisionsUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class DecisionsResponse(BaseModel):
    object: Literal["decisions"] = "decisions"
    model: str
    version: int
    answers: dict[str, Answer]
    usage: DecisionsUsage
