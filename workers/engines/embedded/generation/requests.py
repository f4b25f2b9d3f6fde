"""What clients ask of a language model in OpenAI's shapes.

`jobspecs.dialects` lists the fields that change nothing here (`user`, `metadata`, ...); any other that is not read is
refused, so that nobody gets something else than was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jobspecs.dialects import (
    OPENAI_CHAT,
    OPENAI_COMPLETION,
    OPENAI_MESSAGE,
    OPENAI_PART,
    OPENAI_STREAM,
    Request,
)
from workers.engines.embedded.generation.form_requests import Formed
from workers.engines.embedded.generation.sampling import Sampling
from workers.engines.embedded.generation.tool_requests import Tooled

#: Most choices (`n`) and prompts of one request together.
CHOICES_MAX = 8
#: Most stop strings of one request.
STOPS_MAX = 16
TOP_LOGPROBS_MAX = 20
#: Most tokens of one request that have a bias.
BIASES_MAX = 1024

Stop = Annotated[str, Field(min_length=1, max_length=256)]
TokenId = Annotated[int, Field(ge=0)]
#: What is added to a token's logit.
Bias = Annotated[float, Field(ge=-100, le=100)]


class Unsupported(ValueError):
    """A field asks for what this engine doesn't do; the message begins with its name."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field


class UnknownAdapter(Unsupported):
    """The request names an adapter that this engine has not; the base never answers in its place."""

    def __init__(self, field: str, name: str, known: Sequence[str] = ()) -> None:
        others = f"There are: {', '.join(known)}." if known else "Deploy it by its own name, or with its base."
        super().__init__(field, f"there is no adapter {name!r} here. {others}")


class Part(Request):
    """A piece of a message."""

    dialect = OPENAI_PART

    type: Literal["text"]
    text: str


#: Roles of OpenAI's chats; a template may read others.
ROLES = ("system", "developer", "user", "assistant", "tool")


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


class Wishes(Formed):
    """What chat and completion requests have in common."""

    model: str | None = None
    #: 0: the prompt is read and nothing is written.
    max_tokens: int | None = Field(default=None, ge=0)
    #: OpenAI's newer name of the same.
    max_completion_tokens: int | None = Field(default=None, ge=0)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Stop | Annotated[list[Stop], Field(max_length=STOPS_MAX)] | None = None
    n: int | None = Field(default=None, ge=1, le=CHOICES_MAX)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[TokenId, Bias] | None = Field(default=None, max_length=BIASES_MAX)
    adapter_id: str | None = None

    @property
    def asked_tokens(self) -> int | None:
        """Tokens of the answer at most; None: as many as fit."""
        return self.max_tokens if self.max_tokens is not None else self.max_completion_tokens

    @property
    def draws(self) -> int:
        """How many answers a prompt gets, of which `n` are told."""
        return self.n or 1

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

    def check_tokens(self, vocabulary_size: int) -> None:
        """Raises Unsupported for a token that the model has not."""
        if any(token >= vocabulary_size for token in self.logit_bias or ()):
            raise Unsupported("logit_bias", f"this model knows the tokens 0 to {vocabulary_size - 1}.")

    def sampling(self, room: int, defaults: Mapping[str, float], choice: int = 0) -> Sampling:
        """`room`: tokens that fit. `defaults`: the model's own settings for what is left out."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        top_k = self.top_k if self.top_k is not None else int(defaults.get("top_k", 0))
        return Sampling(
            max_tokens=max(1, min(room if self.asked_tokens is None else self.asked_tokens, room)),
            temperature=first_of(self.temperature, defaults.get("temperature"), 1.0),
            top_p=first_of(self.top_p, defaults.get("top_p"), 1.0),
            top_k=max(0, top_k),
            # Choices of one request differ, and each can be had again.
            seed=None if self.seed is None else (self.seed + choice) % 2**63,
            stop=stop,
            repetition_penalty=first_of(self.repetition_penalty, None, 1.0),
            frequency_penalty=first_of(self.frequency_penalty, None, 0.0),
            presence_penalty=first_of(self.presence_penalty, None, 0.0),
            top_logprobs=self.top,
            logit_bias=tuple((self.logit_bias or {}).items()),
        )


class ChatRequest(Tooled, Wishes):
    """POST /v1/chat/completions."""

    dialect = OPENAI_CHAT

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=TOP_LOGPROBS_MAX)

    @property
    def top(self) -> int:
        return self.top_logprobs or 0

    def check(self) -> None:
        super().check()
        if self.top and not self.logprobs:
            raise Unsupported("top_logprobs", "they stand beside log probabilities. Send logprobs: true as well.")
        if (problem := self.tools_problem()) is not None:
            raise Unsupported(*problem)
        if self.offered and self.form() is not None:
            raise Unsupported("tools", "an answer of a given form calls none. Leave them out, or the form.")

    def check_messages(self, known: Callable[[str], bool], known_role: Callable[[str], bool]) -> None:
        """Raises Unsupported for a message without text, or with a role or field that the template does not know."""
        for place, message in enumerate(self.messages):
            if message.role not in ROLES and not known_role(message.role):
                roles = ", ".join(ROLES)
                raise Unsupported(
                    f"messages[{place}].role",
                    f"{message.role!r} is no role that the model's chat template reads. Use one of: {roles}.",
                )
            calls = message.role == "assistant" and (message.model_extra or {}).get("tool_calls")
            if message.content in (None, []) and not calls:
                raise Unsupported(f"messages[{place}].content", f"the {message.role}'s message has no text. Send one.")
            for name, value in (message.model_extra or {}).items():
                if not OPENAI_MESSAGE.passes_over(name, value) and not known(name):
                    raise Unsupported(f"messages[{place}].{name}", "the model's chat template does not read it.")


class CompletionRequest(Wishes):
    """POST /v1/completions. A prompt may be given as the tokens that it consists of."""

    dialect = OPENAI_COMPLETION

    prompt: str | list[TokenId] | Annotated[list[str], Field(max_length=CHOICES_MAX)]
    logprobs: int | None = Field(default=None, ge=0, le=TOP_LOGPROBS_MAX)
    echo: bool | None = None
    #: So many answers are drawn, and the `n` of them with the highest log probability per token are given.
    best_of: int | None = Field(default=None, ge=1, le=CHOICES_MAX)

    @property
    def top(self) -> int:
        return self.logprobs or 0

    def sampling(self, room: int, defaults: Mapping[str, float], choice: int = 0) -> Sampling:
        plain = super().sampling(room, defaults, choice)
        return replace(plain, echo=bool(self.echo), scores_echo=bool(self.echo) and self.logprobs is not None)

    @property
    def draws(self) -> int:
        return self.best_of or self.n or 1

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
        if self.draws < (self.n or 1):
            raise Unsupported("best_of", "n answers can't be chosen from fewer. Send at least n.")
        if self.stream and self.draws > 1:
            raise Unsupported("best_of", "which answer is the best shows at the end: it can't be streamed.")
        choices = len(self.prompts) * self.draws
        if choices > CHOICES_MAX:
            raise Unsupported("n", f"prompts and choices make {choices} answers; {CHOICES_MAX} at most.")
        if self.stream and choices > 1:
            raise Unsupported("prompt", "a streamed answer has one prompt.")


def first_of(wanted: float | None, own: float | None, otherwise: float) -> float:
    return wanted if wanted is not None else own if own is not None else otherwise
