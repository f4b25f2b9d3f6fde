"""What deployed models answer, as far as the client reads it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from eigenwerk.resources.resource import Resource


class LabelScore(Resource):
    label: str
    score: float


class TextUsage(Resource):
    """What a model read. `truncated_texts`: those that it has not read to their end."""

    total_tokens: int | None = None
    truncated_texts: int | None = None


class Classification(Resource):
    """One list of labels per text, by falling score."""

    model: str
    version: int
    results: list[list[LabelScore]]
    truncated_texts: int | None = None

    @property
    def truncated(self) -> int:
        """Texts that were cut because the model reads fewer tokens."""
        return self.truncated_texts or 0


class AnswerMessage(Resource):
    role: str
    content: str | None = None


class ChatChoice(Resource):
    message: AnswerMessage
    #: `stop` when the model ended its answer, `length` when it was cut.
    finish_reason: str | None = None


class ChatAnswer(Resource):
    """An answer in OpenAI's shape."""

    model: str
    choices: list[ChatChoice]
    #: Tokens: `prompt_tokens`, `completion_tokens`, `total_tokens`.
    usage: dict[str, Any] = Field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.choices[0].message.content or ""


class Embedding(Resource):
    #: The text's place in the request.
    index: int
    embedding: list[float]


class Embeddings(Resource):
    """One vector per text, in the order of the texts, each of length 1."""

    model: str
    version: int
    data: list[Embedding]
    usage: TextUsage = TextUsage()

    @property
    def truncated(self) -> int:
        """Texts that were cut because the model reads fewer tokens."""
        return self.usage.truncated_texts or 0

    @property
    def vectors(self) -> list[list[float]]:
        return [item.embedding for item in self.data]


class Ranked(Resource):
    #: The document's place in the request.
    index: int
    #: 0 to 1.
    relevance_score: float


class Ranking(Resource):
    """Documents, the best one first."""

    model: str
    version: int
    results: list[Ranked]
    usage: TextUsage = TextUsage()

    @property
    def truncated(self) -> int:
        """Documents that were cut because the model reads fewer tokens."""
        return self.usage.truncated_texts or 0
