"""What /v1/responses reads."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from api.generation.schemas import MESSAGES_MAX
from api.inference.engine import ModelName
from api.inference.texts import Text
from jobspecs.dialects import OPENAI_RESPONSES, OPENAI_STREAM, Request

_PARTS_MAX = 1000
_TOOLS_MAX = 128
#: What `include` may name: log probabilities, and what a model that doesn't reason has none of.
LOGPROBS = "message.output_text.logprobs"
_INCLUDED = (LOGPROBS, "reasoning.encrypted_content")


def _kept_nowhere(value: Any) -> Any:
    """Raises for what needs an earlier response, or wants this one to be kept."""
    if value not in (None, False):
        raise PydanticCustomError(
            "stateless",
            "responses are not kept here, so there is none to go on from: send the whole conversation as `input`, "
            "and store: false",
        )
    return value


class Part(Request):
    """A piece of a message: what was said to the model, or by it."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["input_text", "output_text", "text"]
    text: str


Parts = Annotated[list[Part], Field(max_length=_PARTS_MAX)]


class Message(BaseModel):
    # `id` and `status` come back with what the model said.
    model_config = ConfigDict(extra="ignore")

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Parts

    @property
    def text(self) -> str:
        return text_of(self.content)


class FunctionCall(BaseModel):
    """A call that the model made before."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class FunctionCallOutput(BaseModel):
    """What the call gave."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["function_call_output"]
    call_id: str
    output: str | Parts


def text_of(content: str | list[Part]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _kind(item: Any) -> str:
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", "message")
    return str(kind)


Item = Annotated[
    Annotated[Message, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")],
    Discriminator(
        _kind,
        custom_error_type="item",
        custom_error_message="items are messages, function_call and function_call_output; nothing else is kept or read",
    ),
]


class TextFormat(Request):
    """The answer's form."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextSettings(Request):
    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = Field(default=None, description="other lengths are not served")


class Tool(Request):
    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChosenTool(Request):
    type: Literal["function"]
    name: str


class StreamOptions(Request):
    dialect = OPENAI_STREAM


class ResponsesRequest(Request):
    """POST /v1/responses."""

    dialect = OPENAI_RESPONSES

    model: ModelName
    input: Text | Annotated[list[Item], Field(min_length=1, max_length=MESSAGES_MAX)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    include: Annotated[list[Literal[*_INCLUDED]], Field(max_length=10)] | None = None  # type: ignore[valid-type]
    text: TextSettings | None = None
    tools: Annotated[list[Tool], Field(max_length=_TOOLS_MAX)] | None = None
    tool_choice: Literal["auto", "none", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: dict[str, Any] | None = None
    user: str | None = None
    store: Annotated[bool | None, AfterValidator(_kept_nowhere)] = None
    previous_response_id: Annotated[str | None, AfterValidator(_kept_nowhere)] = None
    conversation: Annotated[Any, AfterValidator(_kept_nowhere)] = None
    background: Annotated[bool | None, AfterValidator(_kept_nowhere)] = None

    @property
    def wants_logprobs(self) -> bool:
        return LOGPROBS in (self.include or ()) or bool(self.top_logprobs)
