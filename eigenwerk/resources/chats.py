"""What the platform shows of data sets of conversations."""

from __future__ import annotations

from pydantic import Field

from eigenwerk.resources.resource import Resource
from jobspecs.problems import Problem


class ChatMessage(Resource):
    role: str
    content: str
    reasoning: str | None = None
    #: Of the assistant's turns: whether it is learnt, as far as the row says.
    learnt: bool | None = None


class UnreadField(Resource):
    """A field of turns that nothing reads, in how many rows, and the first of them."""

    field: str
    rows: int
    first_row: int


class RenderedPiece(Resource):
    """A stretch of the text that a model sees; on `supervised` ones it is trained."""

    text: str
    supervised: bool


class RenderedSequence(Resource):
    name: str
    tokens: int
    supervised_tokens: int
    pieces: list[RenderedPiece]


class ChatExample(Resource):
    """One row of a data set as a chat; `sequences` are there when a model was named."""

    row: int
    kind: str
    messages: list[ChatMessage] = Field(default_factory=list)
    chosen: list[ChatMessage] | None = None
    rejected: list[ChatMessage] | None = None
    desirable: bool | None = None
    text: str | None = None
    sequences: list[RenderedSequence] = Field(default_factory=list)
    unwritten: list[str] = Field(default_factory=list)
    problem: str | None = None


class ChatPreview(Resource):
    """The first examples of a data set, and what is wrong with its first rows."""

    format: str
    objective: str
    used: list[str]
    unused: list[str]
    template: str | None = None
    examples: list[ChatExample]
    unread: list[UnreadField] = Field(default_factory=list)
    rows_checked: int
    problems: list[Problem]
