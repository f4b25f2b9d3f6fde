"""What clients ask of a language model, in OpenAI's shapes and in those of text-generation-inference (TGI) 3.3.

`jobspecs.dialects` lists the fields that change nothing here (`user`, `metadata`, ...); any other that is not read is
refused, so that nobody gets something else than was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobspecs.dialects import (
    OPENAI_CHAT,
    OPENAI_COMPLETION,
    OPENAI_MESSAGE,
    OPENAI_PART,
    OPENAI_STREAM,
    TGI,
    TGI_PARAMETERS,
    Request,
)
from workers.engines.embedded.generation.sampling import Sampling

#: Most choices (`n`) and prompts of one request together.
CHOICES_MAX = 8
#: Most stop strings of one request.
STOPS_MAX = 16
_TOP_LOGPROBS_MAX = 20

Stop = Annotated[str, Field(min_length=1, max_length=256)]
TokenId = Annotated[int, Field(ge=0)]


class Unsupported(ValueError):
    """A field asks for what this engine doesn't do; the message begins with its name."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field


class Part(Request):
    """A piece of a message."""

    dialect = OPENAI_PART

    type: Literal["text"]
    text: str


#: Roles of OpenAI's chats; a template may read others.
ROLES = ("system", "developer", "user", "assistant", "tool")
#: The assistant may call tools instead.
_HAVE_TEXT = ("system", "developer", "user", "tool")


class Message(BaseModel):
    """One message of a conversation. Fields beside these are the template's affair."""

    model_config = ConfigDict(extra="allow")

    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: str | list[Part] | None = None

    def plain(self) -> dict[str, Any]:
        """As templates want it: `content` is one text."""
        parts = self.content if isinstance(self.content, list) else [Part(type="text", text=self.content or "")]
        return {**(self.model_extra or {}), "role": self.role, "content": "".join(part.text for part in parts)}


class StreamOptions(Request):
    dialect = OPENAI_STREAM

    include_usage: bool = False


class Wishes(Request):
    """What chat and completion requests have in common."""

    model: str | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    #: OpenAI's newer name of the same.
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Stop | Annotated[list[Stop], Field(max_length=STOPS_MAX)] | None = None
    n: int | None = Field(default=None, ge=1, le=CHOICES_MAX)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)

    @property
    def top(self) -> int:
        """How many of the most probable tokens are wanted beside each token."""
        return 0

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def check(self) -> None:
        """Raises Unsupported."""
        if None not in (asked := (self.max_tokens, self.max_completion_tokens)) and len(set(asked)) > 1:
            raise Unsupported("max_tokens", "this and max_completion_tokens differ. Send one of them.")
        if self.stream and (self.n or 1) > 1:
            raise Unsupported("n", "a streamed answer has one choice.")

    def sampling(self, room: int, defaults: Mapping[str, float], choice: int = 0) -> Sampling:
        """`room`: tokens that fit. `defaults`: the model's own settings for what is left out."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        top_k = self.top_k if self.top_k is not None else int(defaults.get("top_k", 0))
        return Sampling(
            max_tokens=min(self.max_tokens or self.max_completion_tokens or room, room),
            temperature=_first(self.temperature, defaults.get("temperature"), 1.0),
            top_p=_first(self.top_p, defaults.get("top_p"), 1.0),
            top_k=max(0, top_k),
            # Choices of one request differ, and each can be had again.
            seed=None if self.seed is None else (self.seed + choice) % 2**63,
            stop=stop,
            repetition_penalty=_first(self.repetition_penalty, None, 1.0),
            frequency_penalty=_first(self.frequency_penalty, None, 0.0),
            presence_penalty=_first(self.presence_penalty, None, 0.0),
            top_logprobs=self.top,
        )


class ChatRequest(Wishes):
    """POST /v1/chat/completions."""

    dialect = OPENAI_CHAT

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=_TOP_LOGPROBS_MAX)

    @property
    def top(self) -> int:
        return self.top_logprobs or 0

    def check(self) -> None:
        super().check()
        if self.top and not self.logprobs:
            raise Unsupported("top_logprobs", "they stand beside log probabilities. Send logprobs: true as well.")

    def check_messages(self, known: Callable[[str], bool]) -> None:
        """Raises Unsupported for a message without text, or with a role or field that the template does not know."""
        for place, message in enumerate(self.messages):
            if message.role not in ROLES and not known(message.role):
                roles = ", ".join(ROLES)
                raise Unsupported(
                    f"messages[{place}].role",
                    f"{message.role!r} is no role that the model's chat template reads. Use one of: {roles}.",
                )
            if message.content in (None, []) and message.role in _HAVE_TEXT:
                raise Unsupported(f"messages[{place}].content", f"the {message.role}'s message has no text. Send one.")
            for name, value in (message.model_extra or {}).items():
                if not OPENAI_MESSAGE.passes_over(name, value) and not known(name):
                    raise Unsupported(f"messages[{place}].{name}", "the model's chat template does not read it.")


class CompletionRequest(Wishes):
    """POST /v1/completions. A prompt may be given as the tokens that it consists of."""

    dialect = OPENAI_COMPLETION

    prompt: str | list[TokenId] | Annotated[list[str], Field(max_length=CHOICES_MAX)]
    logprobs: int | None = Field(default=None, ge=0, le=_TOP_LOGPROBS_MAX)
    echo: bool | None = None
    best_of: int | None = Field(default=None, ge=1)

    @property
    def top(self) -> int:
        return self.logprobs or 0

    def sampling(self, room: int, defaults: Mapping[str, float], choice: int = 0) -> Sampling:
        plain = super().sampling(room, defaults, choice)
        return replace(plain, echo=bool(self.echo), scores_echo=bool(self.echo) and self.logprobs is not None)

    @property
    def prompts(self) -> list[str | list[int]]:
        """At least one: an empty list is taken for an empty prompt, which is refused later."""
        if isinstance(self.prompt, list) and self.prompt and all(isinstance(item, str) for item in self.prompt):
            return [str(item) for item in self.prompt]
        if isinstance(self.prompt, list):
            return [[int(item) for item in self.prompt]]
        return [self.prompt]

    def check(self) -> None:
        super().check()
        if self.best_of not in (None, self.n or 1):
            raise Unsupported(
                "best_of", "this engine gives all choices that it draws. Leave it out, or send n as well."
            )
        choices = len(self.prompts) * (self.n or 1)
        if choices > CHOICES_MAX:
            raise Unsupported("n", f"prompts and choices make {choices} answers; {CHOICES_MAX} at most.")
        if self.stream and choices > 1:
            raise Unsupported("prompt", "a streamed answer has one prompt.")


class Parameters(Request):
    """TGI's `parameters`."""

    dialect = TGI_PARAMETERS

    temperature: float | None = Field(default=None, gt=0, le=100)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    top_k: int | None = Field(default=None, gt=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    do_sample: bool = False
    max_new_tokens: int | None = Field(default=None, ge=1)
    return_full_text: bool | None = None
    stop: Annotated[list[Stop], Field(max_length=STOPS_MAX)] = Field(default_factory=list)
    truncate: int | None = Field(default=None, ge=1)
    details: bool = False
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    top_n_tokens: int | None = Field(default=None, ge=0, le=_TOP_LOGPROBS_MAX)

    @property
    def draws(self) -> bool:
        """Asking for a temperature or a cut means drawing, as in TGI."""
        return self.do_sample or any(value not in (None, 1.0) for value in (self.temperature, self.top_p, self.top_k))

    def sampling(self, room: int) -> Sampling:
        """`room`: tokens that fit."""
        return Sampling(
            max_tokens=min(self.max_new_tokens or room, room),
            temperature=_first(self.temperature, None, 1.0) if self.draws else 0.0,
            top_p=_first(self.top_p, None, 1.0),
            top_k=self.top_k or 0,
            seed=self.seed,
            stop=tuple(self.stop),
            repetition_penalty=_first(self.repetition_penalty, None, 1.0),
            frequency_penalty=_first(self.frequency_penalty, None, 0.0),
            top_logprobs=self.top_n_tokens or 0,
        )


class GenerateRequest(Request):
    """POST /generate, /generate_stream and /, where `stream` chooses between the two."""

    dialect = TGI

    inputs: str
    # Without any parameters TGI draws; with some it does not, unless they say so.
    parameters: Parameters = Field(default_factory=lambda: Parameters(do_sample=True))
    stream: bool = False


class TokenizeRequest(Request):
    """POST /tokenize."""

    dialect = TGI

    inputs: str


def _first(wanted: float | None, own: float | None, otherwise: float) -> float:
    return wanted if wanted is not None else own if own is not None else otherwise
