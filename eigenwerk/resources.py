"""What the platform answers, as far as the client reads it. Fields of newer servers are kept and not interpreted."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobspecs.events import ProgressEvent
from jobspecs.frozen import PipelineOrigin
from jobspecs.hosts import Machine
from jobspecs.lifecycle import TERMINAL
from jobspecs.manifest import Manifest
from jobspecs.problems import Problem


class Resource(BaseModel):
    """Anything that the API returns."""

    model_config = ConfigDict(frozen=True, extra="allow")


class JobSummary(Resource):
    """A job in a list. `state` is one of `jobspecs.lifecycle.JobState`."""

    id: str
    kind: str
    name: str
    owner: str = ""
    state: str
    reason: str | None = None
    message: str | None = None
    #: What the user can do about `reason`.
    remedy: str | None = None
    boost: int = 0
    attempts: int = 0
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL


class JobResult(Resource):
    """The model or data set version that a job registered, and what was measured."""

    #: `owner/name@version` of the model; None when the job made a data set.
    model: str | None = None
    #: `owner/name@version` of the data set; None when the job made a model.
    dataset: str | None = None
    owner: str
    name: str
    version: int
    metrics: dict[str, float] = Field(default_factory=dict)
    report: dict[str, Any] = Field(default_factory=dict)


class Job(JobSummary):
    """One job, whole."""

    spec: dict[str, Any] = Field(default_factory=dict)
    #: What may be wasteful about it, found when it was submitted.
    warnings: list[Problem] = Field(default_factory=list)
    progress: ProgressEvent | None = None
    result: JobResult | None = None
    #: Why a queued job does not start, when hosts are the reason.
    waiting_for: str | None = None
    #: The pipeline whose step it is.
    pipeline: PipelineOrigin | None = None
    #: The ended job that it retries, and the jobs that retry it.
    retry_of: str | None = None
    retried_as: list[str] = Field(default_factory=list)
    #: The step of its newest stored checkpoint, which the next attempt, or a retry, goes on from.
    checkpoint_step: int | None = None
    #: Seconds for which hosts had it, in all attempts that have ended.
    run_s: float | None = None


class LogLine(Resource):
    at: datetime
    level: str
    message: str


class DatasetVersion(Resource):
    """One immutable version of a data set."""

    #: `owner/name@version`.
    reference: str
    name: str
    version: int
    file_name: str
    bytes: int
    sha256: str
    rows: int
    columns: list[str]
    #: How the file is read, in a line. None: nothing had to be recognised.
    recognised: str | None = None
    #: What was taken for granted when it was pushed and may not be meant.
    notices: list[str] = []
    #: Where the rows came from, such as `hub:org/name@COMMIT`, and their licence, as whoever pushed them said.
    origin: str | None = None
    license: str | None = None
    owner: str = ""
    #: Who may read it beside its owner: `private` (nobody) or `everyone`.
    visibility: str = "private"
    created_at: datetime


class ColumnFacts(Resource):
    """What is known of a column. `values`: rows of each value, where the values are few and short."""

    kind: str
    empty: int = 0
    distinct: int = 0
    distinct_capped: bool = False
    values: dict[str, int] = {}


class DatasetProfile(Resource):
    columns: dict[str, ColumnFacts]


class DatasetFile(Resource):
    """One of several files that are a version together, and how it is read."""

    name: str
    rows: int
    recognised: str | None = None


class DatasetVersionDetail(DatasetVersion):
    """A version with what is known of its columns, and of its files where it has several."""

    profile: DatasetProfile
    files: list[DatasetFile] = []


class Preview(Resource):
    """The first rows of a data set."""

    columns: list[str]
    rows: list[dict[str, Any]]


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


class ModelVersion(Resource):
    """One immutable version of a model."""

    #: `owner/name@version`.
    reference: str
    owner: str
    name: str
    version: int
    digest: str
    bytes: int
    task: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    #: Who may read it beside its owner: `private` (nobody) or `everyone`.
    visibility: str = "private"
    description: str | None = None
    tags: list[str] = []
    #: As the owner says, else of the base or of the version's own card.
    license: str | None = None
    #: Lists, and names without a version, pass it over.
    archived: bool = False
    created_at: datetime


class ModelVersionDetail(ModelVersion):
    """With its manifest: every file with size and sha256."""

    manifest: Manifest


class FileLink(Resource):
    """One file, and a URL with which anybody may fetch it until `expires_at`."""

    path: str
    bytes: int
    sha256: str
    url: str = Field(repr=False)
    expires_at: datetime


class Model(Resource):
    """A model with its versions, newest first, and aliases."""

    owner: str
    name: str
    visibility: str = "private"
    description: str | None = None
    tags: list[str] = []
    #: What the owner says of all versions.
    license: str | None = None
    aliases: dict[str, int] = Field(default_factory=dict)
    versions: list[ModelVersion]


class JobNamed(Resource):
    id: str
    name: str


class Deleted(Resource):
    """What is gone: references of versions, or the id of a job; and the stored bytes that are freed."""

    deleted: list[str]
    bytes: int
    #: Jobs that failed or were cancelled, and can't go on from their checkpoints any more.
    retries_lost: list[JobNamed] = []


class Host(Resource):
    """A worker that runs jobs; `reason`, `message` and `remedy` say why it takes none."""

    name: str
    alive: bool
    accepting: bool
    reason: str | None = None
    message: str | None = None
    remedy: str | None = None
    slots: int
    memory_bytes: int
    gpus: int
    clock_offset_s: float | None = None
    #: What it can serve models with: name -> `version`, `environment`.
    engines: dict[str, Any] = Field(default_factory=dict)
    #: Somebody wants it to be left.
    draining: bool = False
    machine: Machine | None = None
    #: When it joined with a token; None for one that `eigenwerk up` started.
    joined_at: datetime | None = None
    seen_at: datetime


class StoredKind(Resource):
    """`kind`: datasets, models, checkpoints or imports."""

    owner: str
    kind: str
    items: int
    bytes: int


class StorageUsage(Resource):
    """Bytes in the object store by owner and kind."""

    data: list[StoredKind]
    bytes_total: int
    #: Bytes that nothing names and that go within the hour; only of everybody's usage.
    unreferenced_bytes: int | None = None


class Deployment(Resource):
    """A served model. `state`: `pending`, `starting`, `ready`, `asleep`, `failed` or `stopping`."""

    name: str
    model: str
    version: int | None
    #: Served beside the model, over its weights: `owner/name@version` each, by which requests ask them.
    adapters: list[str] = Field(default_factory=list)
    engine: str
    #: Why this engine.
    engine_reason: str | None = None
    #: Where somebody else runs it: `url`, `model`, `health_path`, `metrics_path`.
    external: dict[str, Any] | None = None
    #: What it had in hand lately: `running`, `waiting`, `cache_share`.
    load: dict[str, Any] | None = None
    host: str | None = None
    #: How it has answered: `requests`, `errors`, `error_rate`, `p50_s`, `p95_s`.
    answers: dict[str, Any] = Field(default_factory=dict)
    #: A version that takes a share of the requests: `model`, `traffic_percent`, `state`, `message`, `answers`, …
    candidate: dict[str, Any] | None = None
    #: What each host serves of it: `host`, `replicas`, `state`, `reason`, `message`, `moving_from`.
    hosts: list[dict[str, Any]] = Field(default_factory=list)
    replicas: int
    memory_bytes: int = 0
    gpus: int = 0
    #: Of each replica: `main` and `gpu` with `weights_bytes`, `kv_cache_bytes`, `overhead_bytes`; `context_tokens`,
    #: `sequences`.
    memory: dict[str, Any] | None = None
    #: Seconds without a request after which it sleeps.
    idle_after_s: int | None = None
    last_used_at: datetime | None = None
    #: How long its start takes, by the last ones.
    expected_start_s: float | None = None
    state: str
    reason: str | None = None
    message: str | None = None


class User(Resource):
    id: str
    name: str
    #: Of the token that asks; empty for others.
    scopes: list[str] = Field(default_factory=list)
    created_at: datetime | None = None


class UserLimits(Resource):
    """How much a user may ask: `requests_per_minute`, `tokens_per_minute`, `concurrent_requests`; 0: no limit."""

    name: str
    #: What an administrator has set for this user; None: the platform's.
    own: dict[str, int | None]
    effective: dict[str, int | None]


class Leaving(Resource):
    """A user that goes once its jobs and deployments have been stopped."""

    name: str
    jobs: int
    deployments: int


class Token(Resource):
    """A token by its first characters; `token` itself is there once, when it is made."""

    id: str
    hint: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    token: str | None = Field(default=None, repr=False)


class HubToken(Resource):
    """A user's own token of the model hub, by its last characters."""

    hint: str
    set_at: datetime
    #: False: the platform's key is another one by now; set it anew.
    readable: bool
