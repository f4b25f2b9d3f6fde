"""What generation requests must say here. Everything else in them is read by the engine, which knows what it can do."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from api.inference.engine import ModelName

MESSAGES_MAX = 1000

#: Prompts of one request, and tokens of one prompt: as many as the longest contexts in use have.
PROMPTS_MAX = 2048
PROMPT_TOKENS_MAX = 131_072

Messages = Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MESSAGES_MAX)]
#: A prompt, several, or one as tokens. Each list ends at its bound while it is read, that of tokens at the first which
#: is none: without them a body of 1 MB was wrong in 392,001 places, which kept the event loop busy for 10 s.
Prompt = (
    str
    | Annotated[list[str], Field(max_length=PROMPTS_MAX)]
    | Annotated[list[int], Field(max_length=PROMPT_TOKENS_MAX, fail_fast=True)]
)


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
    prompt: Prompt
    stream: bool | None = None


class ModelChatRequest(BaseModel):
    """A chat completion with the model of the path."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    messages: Messages
    stream: bool | None = None


class ModelCompletionRequest(BaseModel):
    """A completion by the model of the path."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    prompt: Prompt
    stream: bool | None = None


class GenerateRequest(BaseModel):
    """text-generation-inference's request."""

    model_config = ConfigDict(extra="allow")

    inputs: str
    parameters: dict[str, Any] | None = None
    stream: bool | None = None
