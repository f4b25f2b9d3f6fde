"""What generation requests must say here. Everything else in them is read by the engine, which knows what it can do."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from api.inference.engine import ModelName

MESSAGES_MAX = 1000

Messages = Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MESSAGES_MAX)]


class ChatRequest(BaseModel):
    """OpenAI's chat completion; also `max_tokens`, `temperature`, `top_p`, `seed`, `stop`, `n`, `logprobs`, ..."""

    model_config = ConfigDict(extra="allow")

    model: ModelName
    messages: Messages
    stream: bool | None = None


class CompletionRequest(BaseModel):
    """OpenAI's completion; other fields as in a chat."""

    model_config = ConfigDict(extra="allow")

    model: ModelName
    prompt: str | list[str] | list[int]
    stream: bool | None = None


class ModelChatRequest(BaseModel):
    """A chat completion with the model of the path: `model` may say anything."""

    model_config = ConfigDict(extra="allow")

    messages: Messages
    stream: bool | None = None


class ModelCompletionRequest(BaseModel):
    """A completion by the model of the path."""

    model_config = ConfigDict(extra="allow")

    prompt: str | list[str] | list[int]
    stream: bool | None = None


class GenerateRequest(BaseModel):
    """text-generation-inference's request."""

    model_config = ConfigDict(extra="allow")

    inputs: str
    parameters: dict[str, Any] | None = None
    stream: bool | None = None
