"""Runs all benchmarks one after another: `python -m bench`, or some of them: `python -m bench queue job_start`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.measuring import REPOSITORY, floor_is_met

BENCHMARKS = (
    "encoder_training",
    "job_start",
    "platform_overhead",
    "pipeline_overhead",
    "sweep",
    "queue",
    "backlog",
    "artifact_upload",
    "artifact_reupload",
    "artifact_download",
    "sft_training",
    "lm_head_memory",
    "reranker_training",
    "reranking",
    "embedder_training",
    "cached_mnrl_memory",
    "memory_estimate",
    "hostile",
    "recipes",
    "decode_bandwidth",
    "chat_batching",
    "prefix_reuse",
    "gateway_overhead",
    "request_batching",
    "rerank",
)
RESULTS = Path(__file__).resolve().parent / "results"
#: The longest trains 18 classifiers, six of them on all headlines.
LIMIT_S = 10800


class BenchmarkFailed(Exception):
    """A benchmark that ended without a figure; the text says how."""


def main(names: list[str]) -> int:
    """Exit code 0 if every figure was measured and none is below its floor."""
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        sys.stderr.write(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}\n")
        return 2
    RESULTS.mkdir(exist_ok=True)
    outcomes = [_outcome(name) for name in names or BENCHMARKS]
    return 0 if all(outcomes) else 1


def _outcome(name: str) -> bool:
    began = time.monotonic()
    try:
        figure = run(name)
    except BenchmarkFailed as error:
        sys.stderr.write(f"{name}: failed: {error}\n")
        return False
    (RESULTS / f"{name}.json").write_text(json.dumps(figure, indent=2) + "\n")
    met = floor_is_met(figure)
    floor = figure["conditions"].get("floor", "none")
    sys.stdout.write(
        f"{name}: {figure['ratio']} (ours {figure['ours']}, baseline {figure['baseline']} {figure['unit']}; "
        f"floor {floor}{'' if met else ', MISSED'}; {time.monotonic() - began:.0f} s)\n"
    )
    sys.stdout.flush()
    return met


def run(name: str) -> dict[str, Any]:
    """Runs one benchmark in a process of its own and returns its figure. Raises BenchmarkFailed."""
    with subprocess.Popen(
        [sys.executable, "-m", f"bench.{name}"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            output, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            _stopped(process)
            raise BenchmarkFailed(f"not done after {LIMIT_S} s") from None
        except BaseException:
            _stopped(process)
            raise
    if process.returncode != 0:
        raise BenchmarkFailed(f"exit code {process.returncode}; its messages are above")
    return _figure(output)


def _stopped(process: subprocess.Popen[str]) -> None:
    """Ends a benchmark so that it can stop its own servers: SIGINT raises KeyboardInterrupt in it; then SIGKILL."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _figure(output: str) -> dict[str, Any]:
    lines = output.strip().splitlines()
    try:
        figure = json.loads(lines[-1])
        missing = {"name", "ratio", "ours", "baseline", "unit", "conditions"} - figure.keys()
    except (IndexError, ValueError, AttributeError) as error:
        raise BenchmarkFailed("its last line is not a JSON object") from error
    if missing:
        raise BenchmarkFailed(f"its figure lacks {', '.join(sorted(missing))}")
    return dict(figure)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
