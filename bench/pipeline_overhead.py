"""What a pipeline costs: four small jobs in a row as its steps ÷ the same four submitted by hand, one after another.

Each trains MiniLM-L6 with its real weights for some seconds. By hand each is submitted when the one before has ended,
by a client that looks every 50 ms; between the steps of a pipeline there is the scheduler alone.
"""

from __future__ import annotations

import statistics
import sys
import time

from bench.measuring import report
from bench.platform_overhead import minilm, training_of
from bench.running_platform import platform
from jobspecs.lifecycle import JobState
from tests.models import labelled_texts
from tests.workers.harness import Harness
from tests.workers.pipelines import job_step, register_inputs, submit_pipeline, wait_for_pipeline

STEPS, ROUNDS, ROWS, EPOCHS = 4, 3, 256, 2.0
CEILING = 1.05


def main() -> None:
    rows = "\n".join(["text,label", *(f"{text},{label}" for text, label in labelled_texts(ROWS)), ""])
    ours: list[float] = []
    baseline: list[float] = []
    with platform() as harness:
        harness.prepare_inputs(minilm(harness.folder / "minilm"), rows.encode())
        register_inputs(harness)
        # The cache of inputs and the zygote's pages are warm for both.
        by_hand(harness, "warm", 1)
        for number in range(ROUNDS):
            ours.append(as_pipeline(harness, f"pipeline{number}"))
            baseline.append(by_hand(harness, f"hand{number}", STEPS))
    report(
        "pipeline_overhead",
        sum(ours) / sum(baseline),
        statistics.mean(ours),
        statistics.mean(baseline),
        "s for all four jobs",
        {
            "better": "lower",
            "floor": CEILING,
            "ours_s": [round(value, 2) for value in ours],
            "baseline_s": [round(value, 2) for value in baseline],
            "rows": ROWS,
            "epochs": EPOCHS,
            "model": "MiniLM-L6, 22 M parameters",
        },
    )


def as_pipeline(harness: Harness, name: str) -> float:
    training = training_of(EPOCHS)
    names = [f"{name}-{number}" for number in range(STEPS)]
    steps = [
        job_step(harness, own, *([before] if before is not None else []), training=training)
        for before, own in zip([None, *names], names, strict=False)
    ]
    began = time.monotonic()
    row = wait_for_pipeline(harness, submit_pipeline(harness, name, steps), seconds=300)
    if row.state != "succeeded":
        sys.exit(f"the pipeline ended as {row.state}: {row.message}")
    return time.monotonic() - began


def by_hand(harness: Harness, name: str, jobs: int) -> float:
    began = time.monotonic()
    for number in range(jobs):
        job = harness.wait(harness.submit(f"{name}-{number}", training=training_of(EPOCHS)), seconds=300)
        if job.state != JobState.succeeded:
            sys.exit(f"the job ended as {job.state}: {job.message}")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
