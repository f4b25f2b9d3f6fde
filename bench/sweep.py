"""What halving loses: the best held-out macro F1 of a sweep with rungs ÷ the whole grid's, in a third of its steps.

MiniLM-L6 with its real weights on real headlines (EIGENWERK_DATA_DIR), nine learning rates over three powers of ten.
Both sides are sweeps of the platform on one worker, and both choose by the same rows.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from bench.measuring import report
from bench.platform_overhead import minilm
from bench.running_platform import platform
from jobspecs.frozen import FrozenInputs
from jobspecs.sweeps.frozen import SweepPlan, Variant
from storage.tables import SweepRow, SweepTrialRow
from tests.workers.harness import Harness
from tests.workers.pipelines import register_inputs

ROWS, FACTOR, FIRST_STEPS, SECONDS_MAX = 1000, 3, 25, 3000.0
RATES = [3e-6, 1e-5, 2e-5, 4e-5, 8e-5, 1.6e-4, 3.2e-4, 1e-3, 3e-3]
FLOOR, STEPS_SHARE_MAX = 0.99, 1 / 3


def main() -> None:
    with platform() as harness:
        harness.prepare_inputs(minilm(harness.folder / "minilm"), headlines())
        register_inputs(harness)
        grid = searched(harness, "grid", {})
        halved = searched(harness, "halved", {"halving": {"first_steps": FIRST_STEPS, "factor": FACTOR}})
    best, reached = (max(trial.value for trial in trials if trial.value is not None) for trials in (grid, halved))
    steps, taken = (sum(trial.steps for trial in trials) for trials in (grid, halved))
    if taken > STEPS_SHARE_MAX * steps:
        sys.exit(f"the halved sweep took {taken} steps, more than a third of {steps}")
    report(
        "sweep",
        reached / best,
        reached,
        best,
        "macro F1 of the best trial on held-out rows",
        {
            "floor": FLOOR,
            "steps": taken,
            "steps_of_the_grid": steps,
            "learning_rates": RATES,
            "came_to_the_end": sum(trial.value is not None for trial in halved),
            "rows": ROWS,
            "model": "MiniLM-L6, 22 M parameters",
        },
    )


def headlines() -> bytes:
    """The first rows of the data set, as the harness's specs read them."""
    file = Path(os.environ["EIGENWERK_DATA_DIR"]) / "newsticker-2022-2023-good-bad.csv.gz"
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["text", "label"])
    with gzip.open(file, "rt", encoding="utf-8", newline="") as source:
        for row, _ in zip(csv.DictReader(source), range(ROWS), strict=False):
            writer.writerow([row["headline"], row["quality"]])
    return table.getvalue().encode()


def searched(harness: Harness, name: str, how: dict[str, Any]) -> list[SweepTrialRow]:
    """The trials of a sweep over all rates that has ended."""
    spec = {
        "kind": "train-classifier",
        "name": name,
        "model": "base@1",
        "dataset": "rows@1",
        "text": "text",
        "label": "label",
        "training": {"epochs": "auto", "batch_size": 16, "max_length": 32},
    }
    over = {"training.learning_rate": RATES}
    document = {"kind": "sweep", "name": name, "spec": spec, "over": over, "at_once": 2, "confirm": False, **how}
    inputs = FrozenInputs(dataset=harness.dataset, model=harness.model, checked=True)
    references = {"model": "base@1", "dataset": "rows@1"}
    plan = SweepPlan(variants=(Variant(references=references, inputs=inputs, memory_bytes=1 << 20),))
    with harness.database.unit_of_work() as work:
        owner = work.users.ensure("tester")
        sweep_id = work.sweeps.submit(owner.id, name, document, plan, request_sha256="0")[0].id
    harness.until(lambda: row_of(harness, sweep_id).finished_at is not None, SECONDS_MAX)
    row = row_of(harness, sweep_id)
    if row.state != "succeeded":
        sys.exit(f"the sweep ended as {row.state}: {row.message}")
    with harness.database.unit_of_work() as work:
        return [*work.sweeps.trials(sweep_id)]


def row_of(harness: Harness, sweep_id: UUID) -> SweepRow:
    with harness.database.unit_of_work() as work:
        return work.session.get_one(SweepRow, sweep_id)


if __name__ == "__main__":
    main()
