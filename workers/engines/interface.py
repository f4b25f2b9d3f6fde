"""What an inference engine is to the inference worker. One engine = one file here and one line in `registry.py`.

An engine serves one model per process, over HTTP on loopback. What the API asks, by the task of the model:

    text-classification   POST /classify  {"inputs": [str, ...], "top_k"?: int}
                          -> {"results": [[{"label": str, "score": float}, ...], ...]}
    sentence-similarity   POST /encode    {"inputs": [str, ...], "prompt_name"?, "normalize"?: true, "dimensions"?: int}
                          -> float32, little-endian, one row per text; `x-dimensions` has the length of a row
    text-ranking          POST /rerank    {"query": str, "texts": [str, ...], "raw_scores"?: false}
                          -> [{"index": int, "score": float}, ...], best first
    text-generation       POST /v1/chat/completions, /v1/completions   OpenAI's shapes
                          POST /generate, /generate_stream   TGI's shapes
    every task            GET  /health    200 while it can serve

Beside these it answers the routes of text-embeddings-inference. `x-model` of every answer is the model that gave it,
`x-tokens` the number of tokens that went through it. Every path but /health asks for `Authorization: Bearer <key>`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from jobspecs.lifecycle import Reason


class EngineState(StrEnum):
    """Where an engine process is."""

    starting = "starting"
    ready = "ready"
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
    #: For adapters: the model that they change.
    base_dir: Path | None = None
    #: Of the base's manifest; None for a model of a hub, which has none.
    base_digest: str | None = None
    #: Main memory that the process may use; None: as much as it likes.
    memory_bytes: int | None = None
    #: The GPUs that it may see, as CUDA_VISIBLE_DEVICES names them; without any it computes on the CPU.
    gpu_ids: tuple[str, ...] = ()


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

    def terminate(self) -> None:
        """Asks it to end after the requests in hand (SIGTERM). Call `state` until it has exited."""

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

    def start(self, order: EngineOrder) -> EngineProcess:
        """Starts a process. Raises OSError when the system refuses."""

    def keep_warm(self) -> None:
        """Prepares for the next start while there is nothing else to do; cheap to call again."""

    def close(self) -> None:
        """Ends whatever `keep_warm` has prepared."""
