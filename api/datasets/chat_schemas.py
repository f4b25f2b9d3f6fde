"""The shapes of a data set seen as chats."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel

from corpus.conversations.examples import Objective, Role
from corpus.conversations.formats import ChatSource
from corpus.conversations.rendering import Treatment
from corpus.conversations.turns import TurnRules
from jobspecs.problems import Problem


class ChatQuestion:
    """How the data set is to be read, and which model is to see it."""

    def __init__(
        self,
        model: Annotated[
            str | None, Query(description="a registered model, whose template renders the examples")
        ] = None,
        objective: Annotated[
            Objective | None, Query(description="what the data is for; unless told the first of them that it fits")
        ] = None,
        format: Annotated[str | None, Query(description="recognised by the columns unless told")] = None,
        prompt: Annotated[str | None, Query(description="a text with {column} places")] = None,
        completion: Annotated[str | None, Query(description="a text with {column} places")] = None,
        text: Annotated[str | None, Query(description="a text with {column} places")] = None,
        system: Annotated[str | None, Query(description="for conversations without a system turn")] = None,
        merge_turns: Annotated[bool, Query(description="join turns of one role that follow each other")] = False,
        unanswered: Annotated[
            Literal["refuse", "drop"], Query(description="what is done with turns behind the last answer")
        ] = "refuse",
        control_tokens: Annotated[
            Treatment, Query(description="what is done with control tokens such as <|im_end|> within texts")
        ] = "text",
    ) -> None:
        self.model = model
        self.objective: Objective | None = objective
        self.control_tokens: Treatment = control_tokens
        rules = TurnRules(merge_turns, unanswered)
        self.source = ChatSource(format, prompt, completion, text, system, rules)


class ChatMessage(BaseModel):
    """One turn; in `content` tool calls are JSON, one a line."""

    role: Role
    content: str
    reasoning: str | None = None
    #: Of the assistant's turns: whether it is learnt, as far as the row says.
    learnt: bool | None = None


class UnreadField(BaseModel):
    """A field of turns that nothing reads, in how many of the examples' rows, and the first of them."""

    field: str
    rows: int
    first_row: int


class RenderedPiece(BaseModel):
    """A stretch of the text that the model sees, on which it is trained or not."""

    text: str
    supervised: bool


class RenderedSequence(BaseModel):
    """One sequence that the model sees: `conversation`, `text`, `chosen`, `rejected` or `answer`."""

    name: str
    tokens: int
    supervised_tokens: int
    pieces: list[RenderedPiece]


class ChatExample(BaseModel):
    """One row. Of a preference `messages` are the prompt; of plain text there are none."""

    row: int
    kind: Literal["conversation", "preference", "judged", "text"]
    messages: list[ChatMessage] = []
    chosen: list[ChatMessage] | None = None
    rejected: list[ChatMessage] | None = None
    desirable: bool | None = None
    text: str | None = None
    #: Empty without a model.
    sequences: list[RenderedSequence] = []
    #: Fields of its turns that the model's template does not write.
    unwritten: list[str] = []
    #: Why the model's template can't write this example.
    problem: str | None = None


class ChatPreview(BaseModel):
    """The first examples, and what is wrong with the first rows."""

    object: Literal["dataset.chat_preview"] = "dataset.chat_preview"
    format: str
    objective: Objective
    #: Columns that are read, and those that are not.
    used: list[str]
    unused: list[str]
    #: Whether the model brings its own chat template; null without a model.
    template: Literal["model", "default"] | None = None
    examples: list[ChatExample]
    #: Fields of turns, among the first rows, that are passed over.
    unread: list[UnreadField] = []
    rows_checked: int
    problems: list[Problem]
