"""`python -m deploy.monitoring.dashboard`: writes dashboard.json, the dashboard for Grafana, from the panels below."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("dashboard.json")

#: Title, Grafana's unit, and per line its legend and query. Several APIs tell the same of one platform: hence max.
PANELS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Jobs by state", "short", {"{{state}}": 'max by (state) (eigenwerk_jobs{state!~"succeeded|failed|cancelled"})'}),
    ("Longest wait in the queue", "s", {"longest": "max(eigenwerk_queue_age_seconds)"}),
    (
        "Slots and GPUs",
        "short",
        {
            "slots": "sum(max by (host) (eigenwerk_host_slots))",
            "slots used": "sum(max by (host) (eigenwerk_host_slots_used))",
            "GPUs": "sum(max by (host) (eigenwerk_host_gpus))",
            "GPUs used": "sum(max by (host) (eigenwerk_host_gpus_used))",
        },
    ),
    ("Hosts", "short", {"{{state}} {{reason}}": "max by (state, reason) (eigenwerk_hosts) > 0"}),
    ("Free on scratch disks", "bytes", {"{{host}}": "min by (host) (eigenwerk_host_scratch_free_bytes)"}),
    (
        "Jobs per hour",
        "short",
        {
            "submitted": "sum(max by (kind) (increase(eigenwerk_jobs_submitted_total[1h])))",
            "{{state}}": "sum by (state) (max by (kind, state, reason) (increase(eigenwerk_jobs_ended_total[1h])))",
        },
    ),
    (
        "Attempts per hour",
        "short",
        {
            "started": "sum(max by (kind) (increase(eigenwerk_attempts_started_total[1h])))",
            "{{state}} {{reason}}": "max by (state, reason) (increase(eigenwerk_attempts_ended_total[1h])) > 0",
            "leases expired": "max(increase(eigenwerk_lease_expiries_total[1h]))",
        },
    ),
    (
        "Duration of jobs, median of a day",
        "s",
        {
            "{{kind}}": "histogram_quantile(0.5, sum by (kind, le) (max by (kind, state, le) "
            '(increase(eigenwerk_job_duration_seconds_bucket{state="succeeded"}[1d]))))'
        },
    ),
    (
        "Scheduler",
        "s",
        {
            "a look at the queue": "max(rate(eigenwerk_scheduler_tick_seconds_sum[5m]) "
            "/ rate(eigenwerk_scheduler_tick_seconds_count[5m]))",
            "since the last one": "max(eigenwerk_scheduler_silent_seconds)",
        },
    ),
    ("Deployments", "short", {"{{state}}": "max by (state) (eigenwerk_deployments)"}),
    (
        "Tokens per second",
        "short",
        {"{{direction}} {{task}}": "max by (direction, task) (rate(eigenwerk_tokens_total[5m])) > 0"},
    ),
    (
        "Requests per second",
        "reqps",
        {"{{route}} {{status}}": "sum by (route, status) (rate(eigenwerk_http_request_seconds_count[5m])) > 0"},
    ),
    (
        "Time of requests, 95th percentile",
        "s",
        {"{{route}}": "histogram_quantile(0.95, sum by (route, le) (rate(eigenwerk_http_request_seconds_bucket[5m])))"},
    ),
)
_COLUMNS, _WIDTH, _HEIGHT = 2, 12, 8


def dashboard() -> dict[str, Any]:
    """The document that Grafana imports; it asks for the Prometheus to use."""
    return {
        "title": "Eigenwerk",
        "uid": "eigenwerk",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "prometheus", "type": "datasource", "query": "prometheus"}]},
        "panels": [_panel(number, *panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, title: str, unit: str, queries: dict[str, str]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${prometheus}"}
    row, column = divmod(number, _COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": source, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(queries.items())
        ],
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
