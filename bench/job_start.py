"""Seconds from submit to the first training step: through the platform with its warm zygote, against a cold `python`.

Both run the same runner on the same tiny model and data. The cold side is favoured: it gets its inputs as local files
and needs no database, no scheduler and no verification; the clock starts when its process is made.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from uuid import UUID

from bench.direct_job import direct, task_file
from bench.measuring import report
from bench.running_platform import platform
from tests.models import build_tiny_encoder, labelled_texts
from tests.workers.harness import Harness

COLD_RUNS = 5
WARM_RUNS_PER_COLD = 4
FLOOR = 20.0
TRAINING: dict[str, object] = {"epochs": 1, "batch_size": 8}


def main() -> None:
    rows = "\n".join(["text,label", *(f"{text},{label}" for text, label in labelled_texts(64)), ""])
    cold: list[float] = []
    warm: list[float] = []
    with platform() as harness:
        model_dir = build_tiny_encoder(harness.folder / "encoder")
        dataset = harness.folder / "rows.csv"
        dataset.write_text(rows, encoding="utf-8")
        harness.prepare_inputs(model_dir, rows.encode())
        first = start_seconds(harness)
        for _ in range(COLD_RUNS):
            cold.append(cold_seconds(harness, dataset, model_dir))
            warm.extend(start_seconds(harness) for _ in range(WARM_RUNS_PER_COLD))
    ours, baseline = statistics.median(warm), statistics.median(cold)
    report(
        "job_start",
        baseline / ours,
        ours,
        baseline,
        "s from submit to the first training step",
        {
            "floor": FLOOR,
            "runs": {"warm": len(warm), "cold": len(cold)},
            "warm_max_s": round(max(warm), 3),
            "cold_min_s": round(min(cold), 3),
            "first_job_of_the_worker_s": round(first, 3),
            "model": "2 layers, hidden size 32",
        },
    )


def start_seconds(harness: Harness) -> float:
    """One job through the platform, waited for to its end, so that the next finds an idle machine."""
    submitted_at = time.time()
    job_id = harness.submit("start", training=TRAINING)
    harness.wait(job_id)
    return first_step_at(harness, job_id) - submitted_at


def first_step_at(harness: Harness, job_id: UUID) -> float:
    """When the worker heard of the first step, in seconds since the epoch."""
    with harness.database.unit_of_work() as work:
        events = work.events.after(job_id, kinds=["progress"])
    return next(
        event.at.timestamp()
        for event in events
        if event.event.type == "progress" and event.event.stage == "train" and event.event.step >= 1
    )


def cold_seconds(harness: Harness, dataset: Path, model_dir: Path) -> float:
    """One job in a new process."""
    spec: dict[str, object] = {
        "kind": "train-classifier",
        "name": "start",
        "model": "base@1",
        "dataset": "rows@1",
        "text": "text",
        "label": "label",
        "training": TRAINING,
    }
    task = task_file(harness.folder, spec, dataset, model_dir)
    began_at = time.time()
    with direct(dict(os.environ)) as process:
        return process.run(task)["first_step_at"] - began_at


if __name__ == "__main__":
    main()
