"""What an inference engine is to the inference worker. One engine = one file or folder here, one line in `registry.py`.

An engine serves one model per process, over HTTP. What the API asks of it is in `jobspecs/engines.py`: language models
answer OpenAI's routes, in every engine. The embedded engine serves the other tasks too, and has routes of its own:

    text-classification   POST /classify  {"inputs": [str, ...], "top_k"?: int}
                          -> {"results": [[{"label": str, "score": float}, ...], ...]}
    sentence-similarity   POST /encode    {"inputs": [str, ...], "prompt_name"?, "normalize"?: true, "dimensions"?: int}
                          -> float32, little-endian, one row per text; `x-dimensions` has the length of a row
    text-ranking          POST /rerank    {"query": str, "texts": [str, ...], "raw_scores"?: false}
                          -> [{"index": int, "score": float}, ...], best first
    text-generation       POST /v1/chat/completions, /v1/completions   OpenAI's shapes
                          POST /generate, /generate_stream   TGI's shapes
    every task            GET  /health    200 while it can serve

Beside these it answers the routes of text-embeddings-inference. `x-model` of its answers is the model that gave them,
`x-tokens` the number of tokens that went through it. Every path but /health asks for `Authorization: Bearer <key>`.

`Engine` is what the worker starts processes with. An engine of somebody else's is an `Adapter`, data in the main: how
it is started, where it says that it is well and what it has done. `workers/engines/attended.py` makes an Engine of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from jobspecs.engines import EngineKind, ExternalEngine
from jobspecs.lifecycle import Reason
from storage.settings import DRAIN_S


class EngineState(StrEnum):
    """Where an engine process is."""

    starting = "starting"
    ready = "ready"
    #: It lives, with its weights put away, and answers nobody.
    asleep = "asleep"
    exited = "exited"


@dataclass(frozen=True)
class EngineFailure:
    """Why an engine can't serve the model however often it is started."""

    reason: Reason
    message: str


class Tokens(NamedTuple):
    """How many tokens have gone through a model, and how many it has written, since its process started."""

    prompt: int = 0
    generated: int = 0


class Load(NamedTuple):
    """What an engine has in hand now."""

    running: int = 0
    waiting: int = 0
    #: Of the room for keys and values, 0 to 1; None: the engine does not tell.
    cache_share: float | None = None


@dataclass(frozen=True)
class Installed:
    """An engine that a host can start."""

    version: str
    #: sha256 of the lock file of the environment that it runs in; None: the platform's own, or a program on PATH.
    environment: str | None = None


@dataclass(frozen=True)
class ServedAdapter:
    """An adapter that is served beside its base."""

    #: `owner/name@version`.
    name: str
    folder: Path
    #: Of its manifest.
    digest: str
    #: Of its files.
    bytes_total: int


@dataclass(frozen=True)
class EngineOrder:
    """What one engine process should serve, and where."""

    #: `owner/name@version`, for people.
    model: str
    #: The manifest's: which routes there are, and how the model is loaded.
    task: str
    #: Holds exactly the files of the manifest, and `manifest.json`.
    model_dir: Path
    #: Of the manifest (`Manifest.digest`): the engine checks the files against it before it loads them.
    digest: str
    #: Loopback port. Replicas share it by SO_REUSEPORT; the caller holds it bound, but doesn't listen.
    port: int
    #: The bearer key that requests must carry. Never shown, never on a command line.
    key: str = field(repr=False)
    threads: int = 1
    #: For adapters: the model that they change, served with them.
    base_dir: Path | None = None
    #: Of the base's manifest; None for a model of a hub, which has none.
    base_digest: str | None = None
    #: Main memory that the process may use; None: as much as it likes.
    memory_bytes: int | None = None
    #: Tokens of one answer with its prompt, and answers at once, that are to find room; None: as the engine likes.
    context_tokens: int | None = None
    sequences: int | None = None
    #: An engine that runs already, which is only looked after: then there is no model here.
    external: ExternalEngine | None = None
    #: The GPUs that it may see, as CUDA_VISIBLE_DEVICES names them; without any it computes on the CPU.
    gpu_ids: tuple[str, ...] = ()
    #: Beside the model itself, over its weights, chosen by each request.
    adapters: tuple[ServedAdapter, ...] = ()
    #: Seconds that answers in hand get when the process is told to end.
    drain_s: float = DRAIN_S


class EngineProcess(Protocol):
    """One running engine process. No method blocks."""

    @property
    def pid(self) -> int: ...

    def state(self) -> EngineState:
        """Looks at the process now."""

    def failure(self) -> EngineFailure | None:
        """Set when it has given up for good. A process that simply died has none: starting it again may help."""

    def tokens(self) -> Tokens:
        """As of the last `state`. They never fall; an engine that does not tell leaves them at 0."""

    def load(self) -> Load:
        """As of the last `state`."""

    @property
    def can_sleep(self) -> bool:
        """Whether it can put its weights away, as far as is known."""

    def sleep(self) -> bool:
        """Asks it, once, to put its weights away until `wake`; False when it can't, or has refused."""

    def wake(self) -> bool:
        """As `sleep`."""

    def can_have(self, adapters: Sequence[ServedAdapter]) -> bool:
        """Whether it can come to have these, and no others, beside its model while it serves, as far as is known."""

    def load_adapters(self, adapters: Sequence[ServedAdapter]) -> bool | EngineFailure:
        """Asks it for those of them that it lacks, one after another; True once it has all.

        Call it again until then; a failure says why it does not take one of them, once.
        """

    def unload_adapters(self, kept: Sequence[ServedAdapter]) -> bool:
        """As `load_adapters`, until it has no others. Answers that have begun go on."""

    @property
    def awake(self) -> bool:
        """Whether it is ready, and nothing is under way that makes it sleep."""

    def terminate(self) -> None:
        """Asks it to end after the requests in hand, or `drain_s` (SIGTERM). Call `state` until it has exited."""

    def kill(self) -> None:
        """Ends it now (SIGKILL)."""

    def exit_text(self) -> str:
        """How it ended, in words for people; empty while it runs."""

    def log_tail(self) -> str:
        """The last lines of its log."""

    def wake_fd(self) -> int | None:
        """A file descriptor that becomes readable when `state` may have changed; None when there is none."""

    def close(self) -> None:
        """Frees what is left of it once it has exited."""


class Engine(Protocol):
    """Starts engine processes. Call it from the main thread only: they die with the thread that started them."""

    def installed(self) -> Installed | None:
        """Looks whether this host can start it."""

    def served_name(self, order: EngineOrder) -> str | None:
        """What requests must call the model, with adapters beside it (`EngineKind.told`); None: what they like."""

    def start(self, order: EngineOrder) -> EngineProcess:
        """Starts a process. Raises OSError when the system refuses, RunFailed for what it can't serve."""

    def keep_warm(self) -> None:
        """Prepares for the next start while there is nothing else to do; cheap to call again."""

    def close(self) -> None:
        """Ends whatever `keep_warm` has prepared."""


@dataclass(frozen=True)
class Call:
    """One request to a running engine, which changes what it does."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Measured:
    """The names of an engine's metrics (Prometheus' text format) for what the platform wants to know.

    Those of several series are added up; an empty name: the engine has none.
    """

    prompt_tokens: str = ""
    generated_tokens: str = ""
    running: str = ""
    waiting: str = ""
    #: 0 to 1.
    cache_share: str = ""


@dataclass(frozen=True)
class Launch:
    """How one process of an engine is started, and where it can be asked."""

    #: A program and its arguments. No key stands among them: everybody on the host can read them.
    argv: tuple[str, ...]
    #: Beside the worker's own harmless variables. Keys go here.
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: http://address:port; loopback and the order's port when empty.
    url: str = ""
    health_path: str = "/health"
    metrics_path: str | None = "/metrics"
    #: Adapters beside the model that the process may have had when it ends, those of its start among them.
    adapters_max: int = 0


class Adapter(Protocol):
    """An engine of somebody else's. The methods only say what is to be done; `AttendedEngine` does it."""

    kind: EngineKind
    measured: Measured

    def installed(self) -> Installed | None:
        """Looks whether this host can start it."""

    def served_name(self, order: EngineOrder) -> str | None:
        """What requests must call the model, with adapters beside it (`EngineKind.told`); None: what they like."""

    def launch(self, order: EngineOrder, folder: Path) -> Launch:
        """`folder`: for files of this process alone. Raises RunFailed for a model that the engine can't serve."""

    def load(self, launch: Launch, adapter: ServedAdapter) -> Call | None:
        """The call after which requests may name the adapter; None: a process so started can't take it any more."""

    def unload(self, adapter: ServedAdapter) -> Call | None:
        """The call after which it is forgotten. Answers that have begun go on."""

    def sleep(self, order: EngineOrder) -> Call | None:
        """The call after which it leaves its GPUs to others; None: it can't."""

    def wake(self) -> Call | None: ...


class StartsOnly:
    """For an Adapter whose engine takes everything at its start."""

    def load(self, launch: Launch, adapter: ServedAdapter) -> Call | None:
        return None

    def unload(self, adapter: ServedAdapter) -> Call | None:
        return None

    def sleep(self, order: EngineOrder) -> Call | None:
        return None

    def wake(self) -> Call | None:
        return None
