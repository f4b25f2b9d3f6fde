"""Every command that talks to the platform: a call that works, and what the platform says to it."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.client.chatting import chat_completion
from tests.client.documents import (
    AT,
    JOB_ID,
    OTHER_ID,
    PIPELINE_FORECAST,
    SWEEP_FORECAST,
    candidate,
    data_report,
    dataset,
    deployment,
    estimate,
    event,
    job,
    model_version,
    pipeline,
    sweep,
)

JOBS = {"data": [job("running"), job(id=OTHER_ID)], "has_more": False, "next_before": None}
TABLE = b"headline,quality\na,good\n"
ENDED = event("1.0-0", "state", state="queued") + event("2.1-0", "end", state="succeeded")
VECTORS = [{"index": index, "embedding": [0.6, 0.8]} for index in range(2)]
RANKS = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.25}]
HOST = {
    "name": "one",
    "alive": True,
    "accepting": False,
    "reason": "clock_off",
    "message": "Its clock is +1200 s off the database's.",
    "slots": 2,
    "memory_bytes": 8 << 30,
    "gpus": 1,
    "machine": {
        "cpus": 16,
        "load_1m": 3.25,
        "gpus": [
            {"index": 0, "uuid": "GPU-1", "name": "NVIDIA H200", "memory_bytes": 139 << 30, "memory_used_bytes": 0}
        ],
    },
    "seen_at": AT,
}
#: Every command that talks to the platform, with a call that works.
CALLS = {
    "submit": ["submit", "SPEC"],
    "check": ["check", "SPEC"],
    "estimate": ["estimate", "SPEC"],
    "watch": ["watch", "3f2a"],
    "jobs": ["jobs"],
    "jobs rm": ["jobs", "rm", "3f2a", "--yes"],
    "show": ["show", "3f2a"],
    "logs": ["logs", "3f2a"],
    "cancel": ["cancel", "3f2a"],
    "pause": ["pause", "3f2a"],
    "resume": ["resume", "3f2a"],
    "retry": ["retry", "3f2a"],
    "datasets": ["datasets"],
    "datasets push": ["datasets", "push", "CSV"],
    "datasets download": ["datasets", "download", "headlines", "TARGET"],
    "datasets list": ["datasets", "list"],
    "datasets show": ["datasets", "show", "headlines"],
    "datasets rm": ["datasets", "rm", "headlines@2", "--yes"],
    "datasets preview": ["datasets", "preview", "headlines"],
    "models": ["models"],
    "models list": ["models", "list"],
    "models rm": ["models", "rm", "newsticker-quality", "--yes"],
    "models show": ["models", "show", "newsticker-quality"],
    "models push": ["models", "push", "MODEL", "--name", "base"],
    "models pull": ["models", "pull", "newsticker-quality", "TARGET"],
    "models link": ["models", "link", "newsticker-quality", "config.json", "--expires", "30m"],
    "models export": ["models", "export", "newsticker-quality", "--out", "TARGET"],
    "models import": ["models", "import", "MODEL", "--name", "base"],
    "models predictions": ["models", "predictions", "newsticker-quality", "--out", "TARGET"],
    "models alias": ["models", "alias", "newsticker-quality@1", "production"],
    "models search": ["models", "search", "quality", "--tag", "german"],
    "models lineage": ["models", "lineage", "newsticker-quality@1"],
    "models card": ["models", "card", "newsticker-quality@1"],
    "models compare": ["models", "compare", "newsticker-quality@1", "newsticker-quality@2"],
    "models tag": ["models", "tag", "newsticker-quality", "german"],
    "models describe": ["models", "describe", "newsticker-quality", "--licence", "mit"],
    "models archive": ["models", "archive", "newsticker-quality@1"],
    "models unarchive": ["models", "unarchive", "newsticker-quality"],
    "models first-use": ["models", "first-use", "newsticker-quality", "--idle", "30m"],
    "models share": ["models", "share", "newsticker-quality"],
    "models unshare": ["models", "unshare", "newsticker-quality"],
    "datasets share": ["datasets", "share", "headlines"],
    "datasets unshare": ["datasets", "unshare", "headlines"],
    "download": ["download", "newsticker-quality", "TARGET"],
    "deploy": ["deploy", "newsticker-quality"],
    "undeploy": ["undeploy", "newsticker-quality"],
    "deployments": ["deployments"],
    "deployments show": ["deployments", "show", "newsticker-quality"],
    "deployments sleep": ["deployments", "sleep", "newsticker-quality"],
    "deployments wake": ["deployments", "wake", "newsticker-quality"],
    "deployments traffic": ["deployments", "traffic", "newsticker-quality", "50%"],
    "deployments promote": ["deployments", "promote", "newsticker-quality"],
    "deployments rollback": ["deployments", "rollback", "newsticker-quality"],
    "hosts": ["hosts"],
    "hosts list": ["hosts", "list"],
    "hosts invite": ["hosts", "invite"],
    "hosts drain": ["hosts", "drain", "one"],
    "hosts undrain": ["hosts", "undrain", "one"],
    "classify": ["classify", "newsticker-quality", "one", "two"],
    "chat": ["chat", "smollm2", "Hello"],
    "embed": ["embed", "sentences", "one", "two"],
    "rerank": ["rerank", "judge", "which", "one", "two"],
    "schema": ["schema", "train-classifier"],
    "jobs boost": ["jobs", "boost", JOB_ID, "--boost", "5"],
    "usage": ["usage", "--storage"],
    "users list": ["users", "list"],
    "users create": ["users", "create", "alex"],
    "users delete": ["users", "delete", "alex", "--give-to", "kim", "--yes"],
    "users limits": ["users", "limits", "alex", "--requests-per-minute", "60"],
    "schedules": ["schedules"],
    "schedules create": ["schedules", "create", "SPEC", "--name", "weekly", "--cron", "0 9 * * 1"],
    "schedules list": ["schedules", "list"],
    "schedules show": ["schedules", "show", "weekly"],
    "schedules pause": ["schedules", "pause", "weekly"],
    "schedules resume": ["schedules", "resume", "weekly"],
    "schedules rm": ["schedules", "rm", "weekly", "--yes"],
    "webhooks": ["webhooks"],
    "webhooks create": ["webhooks", "create", "https://hooks.example/x", "--event", "job.succeeded"],
    "webhooks list": ["webhooks", "list"],
    "webhooks show": ["webhooks", "show", JOB_ID],
    "webhooks deliveries": ["webhooks", "deliveries", JOB_ID],
    "webhooks replay": ["webhooks", "replay", JOB_ID, JOB_ID],
    "webhooks test": ["webhooks", "test", JOB_ID],
    "webhooks rotate": ["webhooks", "rotate", JOB_ID],
    "webhooks enable": ["webhooks", "enable", JOB_ID],
    "webhooks rm": ["webhooks", "rm", JOB_ID, "--yes"],
    "tokens hub": ["tokens", "hub"],
    "tokens hub set": ["tokens", "hub", "set"],
    "tokens hub rm": ["tokens", "hub", "rm"],
    "tokens": ["tokens"],
    "tokens list": ["tokens", "list"],
    "tokens create": ["tokens", "create", "--scope", "read"],
    "tokens revoke": ["tokens", "revoke", JOB_ID],
    "sweep": ["sweep", "SPEC", "--over", "training.learning_rate=1e-5,3e-5"],
    "sweeps": ["sweeps"],
    "sweeps list": ["sweeps", "list"],
    "sweeps show": ["sweeps", "show", "rates"],
    "sweeps watch": ["sweeps", "watch", "rates"],
    "sweeps cancel": ["sweeps", "cancel", "rates"],
    "pipelines": ["pipelines"],
    "pipelines submit": ["pipelines", "submit", "SPEC"],
    "pipelines check": ["pipelines", "check", "SPEC"],
    "pipelines list": ["pipelines", "list"],
    "pipelines show": ["pipelines", "show", "chain"],
    "pipelines watch": ["pipelines", "watch", "chain"],
    "pipelines cancel": ["pipelines", "cancel", "chain"],
    "pipelines retry": ["pipelines", "retry", "chain"],
    "pipelines rm": ["pipelines", "rm", "chain", "--yes"],
}
#: These print JSON Lines, not one document.
LINES = {"watch", "logs", "pipelines watch", "sweeps watch"}


def webhook_answers() -> dict[str, Any]:
    hook = {"id": JOB_ID, "name": "x", "url": "https://hooks.example/x", "created_at": AT, "signing_secret": "whsec_"}
    came = {"number": 1, "at": AT, "status": 204, "error": None, "duration_s": 0.1}
    sent: dict[str, Any] = {
        "id": JOB_ID,
        "message_id": "evt_1",
        "event_type": "job.failed",
        "state": "delivered",
        "attempts": 1,
    }
    sent |= {"log": [came], "created_at": AT}
    path = f"/v1/webhooks/{JOB_ID}"
    return {
        "POST /v1/webhooks": (201, hook),
        "GET /v1/webhooks": (200, {"data": [hook]}),
        f"GET {path}": (200, hook),
        f"DELETE {path}": (204, b""),
        f"POST {path}/rotate": (200, {**hook, "signing_secret": "whsec_bmV3"}),
        f"POST {path}/enable": (200, hook),
        f"POST {path}/test": (202, sent),
        f"GET {path}/deliveries": (200, {"data": [sent]}),
        f"POST {path}/deliveries/{JOB_ID}/replay": (202, sent),
    }


def schedule_answers() -> dict[str, Any]:
    schedule: dict[str, Any] = {"id": JOB_ID, "name": "weekly", "cron": "0 9 * * 1", "time_zone": "UTC"}
    schedule |= {"missed": "once", "kind": "train-classifier", "state": "active", "next_times": [AT], "created_at": AT}
    path = "/v1/schedules/weekly"
    return {
        "POST /v1/schedules": (201, schedule),
        "GET /v1/schedules": (200, {"data": [schedule]}),
        f"GET {path}": (200, {**schedule, "runs": [{"due_at": AT, "job_id": JOB_ID}]}),
        f"POST {path}/pause": (200, schedule),
        f"POST {path}/resume": (200, schedule),
        f"DELETE {path}": (204, b""),
    }


def answers() -> dict[str, Any]:
    """What a platform says to which everything succeeds."""
    files = {"config.json": b"{}", "evaluation/held-out.parquet": b"PAR1", "model.safetensors": b"weights"}
    models = "/v1/registry/models"
    link = {"path": "config.json", "bytes": 2, "sha256": "0" * 64, "url": "http://x/v1/links/s", "expires_at": AT}
    version = f"{models}/admin/newsticker-quality/versions"
    log = {
        "data": [{"fence": 1, "number": 1, "at": AT, "level": "info", "message": "hello"}],
        "has_more": False,
    }
    token = {
        "id": JOB_ID,
        "hint": "ew_abcd",
        "scopes": ["read"],
        "created_at": AT,
        "expires_at": None,
        "revoked_at": None,
    }
    classes = [[{"label": "good", "score": 0.9}]] * 2
    no_limits = {"requests_per_minute": None, "tokens_per_minute": None, "concurrent_requests": None}
    limits = {"name": "alex", "own": no_limits, "effective": {**no_limits, "requests_per_minute": 60}}
    stored = {"owner": "admin", "kind": "models", "items": 1, "bytes": 2048}
    return {
        "POST /v1/jobs": (201, job()),
        "POST /v1/deployments/newsticker-quality/traffic": (200, deployment(candidate=candidate(50))),
        "POST /v1/deployments/newsticker-quality/promote": (200, deployment()),
        "POST /v1/deployments/newsticker-quality/rollback": (200, deployment()),
        "GET /v1/users/me/hub-token": (200, {"hint": "wxyz", "set_at": AT, "readable": True}),
        "PUT /v1/users/me/hub-token": (200, {"hint": "wxyz", "set_at": AT, "readable": True}),
        "DELETE /v1/users/me/hub-token": (204, b""),
        "GET /v1/users/alex/limits": (200, limits),
        **webhook_answers(),
        **schedule_answers(),
        "PUT /v1/users/alex/limits": (200, limits),
        "POST /v1/jobs/check": (200, data_report()),
        "POST /v1/jobs/estimate": (200, estimate()),
        "GET /v1/jobs": (200, JOBS),
        f"GET /v1/jobs/{JOB_ID}": (200, job("succeeded")),
        f"GET /v1/jobs/{JOB_ID}/events": (200, ENDED.encode()),
        f"GET /v1/jobs/{JOB_ID}/logs": (200, {**log, "cursor": "1.1-1"}),
        f"PATCH /v1/jobs/{JOB_ID}": (200, job()),
        f"POST /v1/jobs/{JOB_ID}/cancel": (200, job("cancelling")),
        f"POST /v1/jobs/{JOB_ID}/pause": (200, job("paused")),
        f"POST /v1/jobs/{JOB_ID}/resume": (200, job("queued")),
        f"POST /v1/jobs/{JOB_ID}/retry": (201, {**job(), "retry_of": JOB_ID, "checkpoint_step": 200}),
        f"DELETE /v1/jobs/{JOB_ID}": (200, {"deleted": [JOB_ID], "bytes": 0}),
        "POST /v1/sweeps": (201, sweep()),
        "POST /v1/sweeps/check": (200, SWEEP_FORECAST),
        "GET /v1/sweeps": (200, {"data": [sweep()], "has_more": False, "next_before": None}),
        f"GET /v1/sweeps/{JOB_ID}": (200, sweep("succeeded")),
        f"POST /v1/sweeps/{JOB_ID}/cancel": (200, sweep("cancelling")),
        "POST /v1/pipelines": (201, pipeline()),
        "POST /v1/pipelines/check": (200, PIPELINE_FORECAST),
        "GET /v1/pipelines": (200, {"data": [pipeline()], "has_more": False, "next_before": None}),
        f"GET /v1/pipelines/{JOB_ID}": (200, pipeline("succeeded")),
        f"POST /v1/pipelines/{JOB_ID}/cancel": (200, pipeline("cancelling")),
        f"POST /v1/pipelines/{JOB_ID}/retry": (200, pipeline()),
        f"DELETE /v1/pipelines/{JOB_ID}": (200, {"id": JOB_ID, "name": "chain", "deleted": True}),
        "DELETE /v1/datasets/headlines/versions/2": (200, {"deleted": ["admin/headlines@2"], "bytes": 2048}),
        f"DELETE {models}/admin/newsticker-quality": (200, {"deleted": ["admin/newsticker-quality@1"], "bytes": 2048}),
        "PUT /v1/datasets/headlines": (201, dataset()),
        "GET /v1/datasets": (200, {"data": [dataset()]}),
        "GET /v1/datasets/headlines/versions/latest": (
            200,
            dataset(bytes=len(TABLE), sha256=hashlib.sha256(TABLE).hexdigest()),
        ),
        "GET /v1/datasets/admin/headlines/versions/1/file": (200, TABLE),
        "GET /v1/datasets/admin/headlines": (200, {"versions": [dataset(version=2), dataset()]}),
        "GET /v1/datasets/headlines/versions/latest/preview": (
            200,
            {"columns": ["headline"], "rows": [{"headline": "a"}]},
        ),
        "GET /v1/hosts": (200, {"data": [HOST]}),
        "PUT /v1/hosts/one/draining": (200, HOST),
        "DELETE /v1/hosts/one/draining": (200, HOST),
        "GET /v1/users/me": (200, {"id": "u", "name": "admin"}),
        "DELETE /v1/users/alex": (204, b""),
        f"GET {models}": (200, {"data": [model_version(files)]}),
        **{
            f"{method} {models}/admin/newsticker-quality": (
                200,
                {"owner": "admin", "name": "newsticker-quality", "aliases": {}, "versions": [model_version(files)]},
            )
            for method in ("GET", "PATCH")
        },
        f"GET {version}/1/lineage": (200, {"reference": "admin/newsticker-quality@1", "digest": "d" * 64}),
        f"GET {version}/1/card": (200, b"# newsticker-quality\n"),
        "GET /v1/registry/comparison": (200, {"first": "a@1", "second": "a@2", "why_not": "no rows are the same."}),
        f"PATCH {version}/1": (200, model_version(files)),
        "PATCH /v1/datasets/headlines": (200, {"visibility": "everyone", "versions": []}),
        **{f"GET {version}/{selector}": (200, model_version(files)) for selector in ("1", "latest")},
        **{f"GET {version}/1/files/{name}": (200, content) for name, content in files.items()},
        f"PUT {models}/admin/newsticker-quality/aliases/production": (200, {"alias": "production", "version": 1}),
        f"POST {version}/1/links": (201, link),
        f"GET {version}/1/export": (200, b"a tar"),
        "POST /v1/registry/imports": (201, {"id": "i1", "name": "base"}),
        "PUT /v1/registry/imports/i1/files/model.safetensors": (201, {}),
        "POST /v1/registry/imports/i1/complete": (201, model_version(files)),
        "POST /v1/deployments/newsticker-quality/sleep": (202, deployment("asleep")),
        "POST /v1/deployments/newsticker-quality/wake": (202, deployment("pending")),
        "PUT /v1/deployments/newsticker-quality": (202, deployment("pending")),
        "GET /v1/deployments/newsticker-quality": (200, deployment()),
        "DELETE /v1/deployments/newsticker-quality": (202, deployment("stopping")),
        "GET /v1/deployments": (200, {"data": [deployment()]}),
        "POST /v1/classify": (200, {"model": "newsticker-quality", "version": 1, "results": classes}),
        "POST /v1/chat/completions": chat_completion,
        "POST /v1/embeddings": (200, {"model": "sentences", "version": 1, "data": VECTORS}),
        "POST /v1/rerank": (200, {"model": "judge", "version": 1, "results": RANKS}),
        "GET /v1/schemas/train-classifier": (200, {"type": "object"}),
        "GET /v1/usage/storage": (200, {"data": [stored], "bytes_total": 2048}),
        "GET /v1/users": (200, {"data": [{"id": "u2", "name": "alex", "created_at": AT}]}),
        "POST /v1/users": (201, {"id": "u2", "name": "alex"}),
        "GET /v1/users/me/tokens": (200, {"data": [token]}),
        "POST /v1/users/me/tokens": (201, {**token, "token": "ew_abcdefgh"}),
        f"DELETE /v1/users/me/tokens/{JOB_ID}": (204, b""),
    }
