"""What the platform answers about deployments."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from eigenwerk.resources.resource import Resource


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
