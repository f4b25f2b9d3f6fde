"""The engines that models are served with, as data: which models each takes, and what it reads of a request.

How an engine is started is the inference worker's business (`workers/engines/`). One engine = one line in ENGINE_KINDS.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from jobspecs.dialects import OPENAI_CHAT, OPENAI_COMPLETION, Dialect
from jobspecs.manifest import Manifest
from jobspecs.tasks import SERVED_TASKS, TEXT_GENERATION

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
_DIALECTS: Mapping[str, Dialect] = MappingProxyType({CHAT: OPENAI_CHAT, COMPLETIONS: OPENAI_COMPLETION})


class WeightsFormat(StrEnum):
    safetensors = "safetensors"
    gguf = "gguf"


def format_of(manifest: Manifest) -> WeightsFormat:
    """What the weights are stored as. Of a model that has both, GGUF files are a by-product."""
    suffixes = {file.path.rpartition(".")[2] for file in manifest.files}
    return WeightsFormat.gguf if "gguf" in suffixes and "safetensors" not in suffixes else WeightsFormat.safetensors


def task_of(manifest: Manifest) -> str | None:
    """The task that the model serves; a GGUF without a configuration beside it is a language model."""
    if manifest.task is None and format_of(manifest) is WeightsFormat.gguf:
        return TEXT_GENERATION.name
    return manifest.task


@dataclass(frozen=True)
class EngineKind:
    """One engine: what it takes, and what it reads of OpenAI's requests."""

    #: As deployments name it.
    name: str
    #: As people know it.
    title: str
    formats: frozenset[WeightsFormat]
    tasks: frozenset[str]
    #: Takes models that are changes of another one.
    adapters: bool = True
    #: Serves adapters beside the model that they change, chosen by each request.
    adapters_beside: bool = False
    #: What stands between name and version where requests to it name such an adapter.
    version_mark: str = "@"
    #: Processes that may share one port.
    replicas_max: int = 1
    #: Computes on GPUs only.
    needs_gpu: bool = False
    #: Route -> fields of a request that it reads. A route that is not here: the engine itself refuses what it can't do.
    reads: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: Answers text-generation-inference's routes itself.
    speaks_tgi: bool = False
    #: There an adapter is chosen by `adapter_id`, and an unknown one is silently none.
    adapter_field: bool = False
    #: Field of a completion that has it tell each token's id and log probability, in `logprobs.content`: how many of
    #: the most probable ones stand beside it.
    ids_field: str | None = None
    #: Where it tells the prompt that it makes of a chat, if it passes over tools that the template knows nothing of.
    template_route: str | None = None
    #: In its refusal of a prompt that is longer than the context: part of the message, or the kind of error.
    too_long: tuple[str, ...] = ()

    def adapter_name(self, adapter: str) -> str:
        """What requests to it call the adapter `owner/name@version` that is served beside the model."""
        return adapter.replace("@", self.version_mark)

    def told(self, model: str, adapters: Sequence[str]) -> str:
        """What a process is to be called, as the worker tells it: the model, and in lines below, adapters beside it.

        An empty `model`: requests call it what they like.
        """
        return "\n".join([model, *map(self.adapter_name, adapters)])

    def known(self, told: str | None) -> tuple[str | None, tuple[str, ...]]:
        """What `told` says: how the model is called, and the adapters `owner/name@version` that the process has."""
        if told is None or not self.adapters_beside:
            return told, ()
        model, *names = told.split("\n")
        return model or None, tuple(name.replace(self.version_mark, "@") for name in names)


def origin_of(url: str) -> str:
    """`scheme://host:port` in lower case, the port written out. Raises ValueError for what is no http(s) address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is no address such as http://10.0.0.5:8000")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host.lower()}:{port}"


def _base_url(url: str) -> str:
    """Without the /v1 that OpenAI's clients want at its end."""
    # urlsplit passes over line ends, and what sends requests does not.
    if not all("!" <= character <= "~" for character in url):
        raise ValueError("an address has no spaces, line ends or letters beyond ASCII; write them as %20 and so on")
    origin_of(url)
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("an address has neither a name and password nor a query; give the key as `key`")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


_Path = Annotated[str, Field(pattern=r"^/[\x21-\x7e]*$", max_length=200)]


class ExternalEngine(BaseModel):
    """An engine that somebody else runs, which answers OpenAI's routes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, Field(max_length=500), AfterValidator(_base_url)]
    #: Sent as `Authorization: Bearer`; shown to nobody.
    key: str = Field(default="", max_length=1000, repr=False, pattern=r"^[\x21-\x7e]*$")
    #: What it calls the model.
    model: str = Field(min_length=1, max_length=300)
    task: Literal["text-generation"] = "text-generation"
    health_path: _Path = "/health"
    #: Prometheus' text format; null: it has none.
    metrics_path: _Path | None = None


@dataclass(frozen=True)
class Unserved:
    """A field of a request that the engine does not serve, and why, for people."""

    field: str
    message: str


def what_is_read(kind: EngineKind, route: str, body: Mapping[str, Any]) -> dict[str, Any] | Unserved:
    """The request without what changes no answer; or the first field that asks for what the engine can't do.

    Nobody gets another answer than was asked for: an engine that would pass over a field is never sent it.
    """
    reads = kind.reads.get(route)
    if reads is None:
        return dict(body)
    dialect, read = _DIALECTS[route], {}
    for name, value in body.items():
        if name in reads:
            read[name] = value
        elif not dialect.passes_over(name, value):
            return Unserved(name, _why(kind, dialect, name))
    return read


def _why(kind: EngineKind, dialect: Dialect, name: str) -> str:
    if name not in dialect.idle:
        return f"{name}: {kind.title} reads no such field. Leave it out."
    or_say = "".join(f", or say {json.dumps(said)}" for said in dialect.idle[name])
    return f"{name}: {kind.title}, which serves this deployment, can't do this. Leave it out{or_say}."


_SAMPLING = frozenset(
    {"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop"}
)
_PENALTIES = frozenset({"frequency_penalty", "presence_penalty"})
_TOOLS = frozenset({"tools", "tool_choice", "parallel_tool_calls", "response_format"})
_GENERATES = frozenset({TEXT_GENERATION.name})

EMBEDDED = EngineKind(
    "embedded",
    "the embedded engine",
    formats=frozenset({WeightsFormat.safetensors}),
    tasks=frozenset(SERVED_TASKS),
    adapters_beside=True,
    replicas_max=8,
    speaks_tgi=True,
)
_LLAMACPP = _SAMPLING | _PENALTIES | {"top_k", "min_p", "typical_p", "logit_bias", "n", "ignore_eos", "lora", "grammar"}
LLAMACPP = EngineKind(
    "llamacpp",
    "llama.cpp",
    formats=frozenset({WeightsFormat.gguf}),
    tasks=_GENERATES,
    adapters=False,
    replicas_max=8,
    reads={
        CHAT: _LLAMACPP | _TOOLS | {"messages", "logprobs", "top_logprobs", "chat_template_kwargs", "json_schema"},
        # Log probabilities of completions come in the shape of chats, and `n` is taken for each prompt as it pleases.
        COMPLETIONS: _LLAMACPP - {"n"} | {"prompt", "n_probs"},
    },
    ids_field="n_probs",
    template_route="/apply-template",
    too_long=("exceed_context_size_error",),
)

_VLLM = (
    _SAMPLING
    | _PENALTIES
    | {"top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos", "logit_bias", "n", "echo", "logprobs"}
    | {"stop_token_ids", "bad_words", "allowed_token_ids", "include_stop_str_in_output", "skip_special_tokens"}
    | {"spaces_between_special_tokens", "truncate_prompt_tokens", "prompt_logprobs", "return_token_ids"}
    | {"return_tokens_as_token_ids", "structured_outputs", "response_format", "add_special_tokens"}
)
VLLM = EngineKind(
    "vllm",
    "vLLM",
    formats=frozenset({WeightsFormat.safetensors}),
    tasks=_GENERATES,
    adapters_beside=True,
    reads={
        CHAT: _VLLM
        | _TOOLS
        | {"messages", "top_logprobs", "chat_template_kwargs", "add_generation_prompt", "continue_final_message"}
        | {"documents", "reasoning_effort", "include_reasoning"},
        COMPLETIONS: _VLLM | {"prompt", "suffix"},
    },
    too_long=("maximum context length",),
)
#: What TGI calls a model without adapters; any other name is taken for an adapter.
TGI_MODEL = "tgi"
_TGI = frozenset({"model", "stream", "max_tokens", "temperature", "seed", "stop"})
TGI = EngineKind(
    "tgi",
    "text-generation-inference",
    formats=frozenset({WeightsFormat.safetensors}),
    tasks=_GENERATES,
    adapters_beside=True,
    # In its list of adapters an @ begins a revision of a hub's.
    version_mark=":",
    reads={
        # It reads `presence_penalty` as another kind of penalty, and `n` and `logit_bias` not at all.
        CHAT: _TGI
        | {"messages", "stream_options", "max_completion_tokens", "top_p", "frequency_penalty", "logprobs"}
        | {"top_logprobs", "tools", "tool_choice", "tool_prompt", "response_format"},
        COMPLETIONS: _TGI | {"prompt"},
    },
    speaks_tgi=True,
    adapter_field=True,
    too_long=("must have less than", "must be <="),
)
EXTERNAL = EngineKind(
    "external",
    "an engine that somebody else runs",
    formats=frozenset(),
    tasks=_GENERATES,
    too_long=("exceed_context_size_error", "maximum context length", "context_length_exceeded"),
)

ENGINE_KINDS: Mapping[str, EngineKind] = MappingProxyType(
    {kind.name: kind for kind in (EMBEDDED, LLAMACPP, VLLM, TGI, EXTERNAL)}
)
