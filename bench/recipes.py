"""What our defaults make of headlines, against the workshop's fixed recipe: macro F1 on rows that neither has seen.

The recipe: 4 epochs, batches of 32, learning rate 2e-5 of all layers falling linearly from the first step on, no
warm-up, the last weights. Ours: `ClassifierTraining` as it is when a spec says nothing. Three sets: the headlines
whole, 500 of them, and 2,000 of which one class has a tenth; three seeds each, which choose rows, the head and the
order. `ratio` is the smallest of the three means.

Both train by the loop of this project, for its losses equal the notebook's (`encoder_training`). Equal time means that
the recipe trains for at least the time that ours took, at the speed of the notebook's own loop: its CPU seconds per
step are measured here, in turns with ours. Where its 4 epochs would take less, it gets as many as fit, and its learning
rate falls over them. `time_share` says how much of the time of 4 epochs ours took.

Some sets alone: `EIGENWERK_BENCH_SETS=few,uneven`; the figure says which were measured.
"""

from __future__ import annotations

import copy
import csv
import gzip
import logging
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.metrics import f1_score

from bench.contender import Contender
from bench.encoder_training import DATA, MODEL_DIR, PADDED_TOKENS, notebook
from bench.encoder_training import ours as ours_contender
from bench.measuring import report
from jobspecs.kinds.train_classifier import ClassifierTraining
from workers.local_models.base_model import load_base
from workers.local_models.devices import THREADS_VARIABLE, prepare_device
from workers.local_models.prediction import probabilities
from workers.local_models.tokens import Int64s, TokenTable, tokenize
from workers.run.context import RunContext
from workers.training.batches import BatchPlan
from workers.training.classification.training import TrainingData, train_classifier

EPOCHS, BATCH_SIZE = 4, 32
RECIPE = ClassifierTraining(
    epochs=EPOCHS,
    batch_size=BATCH_SIZE,
    learning_rate=2e-5,
    head_learning_rate=2e-5,
    warmup_fraction=0,
    class_weights="none",
)
SEEDS = (1, 2, 3)
CLASSES = ("bad", "good")
#: Rows that judge where not a quarter of all does.
JUDGED = 2000
TIMED_STEPS = 10
FLOOR = 1.0

_log = logging.getLogger("bench.recipes")


@dataclass(frozen=True)
class Headlines:
    """All texts, and 1 for good ones."""

    texts: list[str]
    labels: Int64s


@dataclass(frozen=True)
class Result:
    """Macro F1 on the rows that judge; CPU seconds of the training."""

    macro_f1: float
    seconds: float
    steps: int


def whole(headlines: Headlines, order: Int64s) -> tuple[Int64s, Int64s]:
    """Three quarters train, one judges."""
    cut = len(order) // 4
    return order[cut:], order[:cut]


def few(headlines: Headlines, order: Int64s) -> tuple[Int64s, Int64s]:
    """500 rows train."""
    return order[JUDGED : JUDGED + 500], order[:JUDGED]


def uneven(headlines: Headlines, order: Int64s) -> tuple[Int64s, Int64s]:
    """Nine bad ones for a good one on both sides; 2,000 rows train."""
    good, bad = (order[headlines.labels[order] == label] for label in (1, 0))
    return np.concatenate([good[200:400], bad[1800:3600]]), np.concatenate([good[:200], bad[:1800]])


SETS: dict[str, Callable[[Headlines, Int64s], tuple[Int64s, Int64s]]] = {
    "whole": whole,
    "few": few,
    "uneven": uneven,
}


def load() -> Headlines:
    path = Path(os.environ.get("EIGENWERK_DATA_DIR", "")) / DATA
    if not path.is_file():
        sys.exit(f"{DATA} is needed: set EIGENWERK_DATA_DIR to the folder that holds it.")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return Headlines(
        [row["headline"] for row in rows], np.array([row["quality"] == "good" for row in rows], dtype=np.int64)
    )


def train(headlines: Headlines, rows: Int64s, judged: Int64s, settings: ClassifierTraining, seed: int) -> Result:
    """Trains MiniLM on rows and judges it by others."""
    device = prepare_device()
    loaded = load_base(MODEL_DIR, CLASSES, seed, settings.dropout)

    def tokens(of: Int64s) -> TokenTable:
        return tokenize(loaded.tokenizer, [headlines.texts[row] for row in of], PADDED_TOKENS)

    with TemporaryDirectory(prefix="eigenwerk-bench-") as folder:
        context = RunContext(
            spec=None,  # type: ignore[arg-type]
            dataset_path=None,
            model_dir=MODEL_DIR,
            output_dir=Path(folder),
            checkpoints_dir=Path(folder),
            resume_from=None,
            emit=lambda event: None,
            stop_requested=lambda: False,
        )
        balanced = settings.balances(np.bincount(headlines.labels[rows]).tolist())
        data = TrainingData(tokens(rows), headlines.labels[rows], len(CLASSES), balanced, len(judged))
        settings = settings.model_copy(update={"seed": seed, "checkpoint_every_steps": 10**9})
        began = time.process_time()
        result = train_classifier(context, loaded, data, settings, device)
        seconds = time.process_time() - began
    predicted = probabilities(loaded, tokens(judged), device).argmax(axis=1)
    return Result(float(f1_score(headlines.labels[judged], predicted, average="macro")), seconds, result.steps)


def notebook_step_s(headlines: Headlines) -> float:
    """CPU seconds of a step of the notebook's own loop."""
    rows = np.arange(BATCH_SIZE * TIMED_STEPS)
    loaded = load_base(MODEL_DIR, CLASSES, 1, 0.0)
    loaded.model.train()
    table = tokenize(loaded.tokenizer, [headlines.texts[row] for row in rows], PADDED_TOKENS)
    contenders: list[Contender] = [
        notebook(copy.deepcopy(loaded.model), table, headlines.labels[rows], PADDED_TOKENS, TIMED_STEPS),
        ours_contender("ours", copy.deepcopy(loaded.model), table, headlines.labels[rows], TIMED_STEPS, onednn=True),
    ]
    plan = BatchPlan(table.lengths, BATCH_SIZE, 1, seed=1, grouped=False)
    for step in range(TIMED_STEPS):
        for contender in contenders:
            contender.take(plan.rows(step))
    return statistics.median(contenders[0].cpu_s[2:])


def measure(name: str, seed: int, step_s: float) -> tuple[Result, Result, float]:
    """Ours, the recipe, and the share of its 4 epochs' time that ours took."""
    headlines = load()
    order = np.random.default_rng(seed).permutation(len(headlines.labels)).astype(np.int64)
    rows, judged = SETS[name](headlines, order)
    by_default = train(headlines, rows, judged, ClassifierTraining(), seed)
    share = by_default.seconds / (step_s * EPOCHS * len(rows) / BATCH_SIZE)
    as_long = RECIPE.model_copy(update={"epochs": EPOCHS * max(1.0, share)})
    return by_default, train(headlines, rows, judged, as_long, seed), share


def main() -> int:
    """Prints the figure."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault(THREADS_VARIABLE, "1")
    prepare_device()
    step_s = notebook_step_s(load())
    chosen = os.environ.get("EIGENWERK_BENCH_SETS", ",".join(SETS)).split(",")
    figures: dict[str, dict[str, list[float]]] = {}
    # One thread each, and time is CPU time: cores may work side by side.
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        running = {(name, seed): pool.submit(measure, name, seed, step_s) for name in chosen for seed in SEEDS}
        for (name, seed), measured in running.items():
            ours, recipe, share = measured.result()
            of = figures.setdefault(name, {"ours": [], "recipe": [], "time_share": []})
            for key, value in (("ours", ours.macro_f1), ("recipe", recipe.macro_f1), ("time_share", share)):
                of[key].append(value)
            _log.info("%s, seed %d: ours %s, recipe %s, share of its time %.2f", name, seed, ours, recipe, share)
    _report(figures, step_s)
    return 0


def _report(figures: dict[str, dict[str, list[float]]], step_s: float) -> None:
    means = {name: {key: statistics.fmean(values) for key, values in of.items()} for name, of in figures.items()}
    ratios = {name: mean["ours"] / mean["recipe"] for name, mean in means.items()}
    worst = min(ratios, key=lambda name: ratios[name])
    report(
        "recipes",
        ratios[worst],
        means[worst]["ours"],
        means[worst]["recipe"],
        f"macro F1, mean of {len(SEEDS)} seeds, on the set where the ratio is smallest ({worst})",
        {
            "floor": FLOOR,
            "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
            "macro_f1": {
                name: {key: [round(value, 4) for value in values] for key, values in of.items() if key != "time_share"}
                for name, of in figures.items()
            },
            "time_share_mean": {name: round(mean["time_share"], 2) for name, mean in means.items()},
            "notebook_step_cpu_s": round(step_s, 3),
            "model": "MiniLM-L6",
        },
    )


if __name__ == "__main__":
    sys.exit(main())
