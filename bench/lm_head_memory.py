"""Extra peak memory of an LM head with its loss, forward and backward, against the plain way that holds all logits.

A head of Llama 3's vocabulary over 1,024 tokens of SmolLM2's width. Each way runs in a process of its own, whose
resident memory is noted before, and at its peak. The figure is for a frozen head, as an adapter has it; for a trained
one, whose gradient alone is as large as itself, it stands beside it. Gradients must agree to 1e-5 of the largest: sums
over 128,256 words round differently in another order.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from bench.measuring import REPOSITORY, report
from workers.local_models.devices import THREADS_VARIABLE, prepare_device
from workers.training.llm.lm_head import Head, weighted_loss

TOKENS, HIDDEN, VOCABULARY = 1024, 576, 128_256
TOLERANCE = 1e-5
#: The plain way needs at least this many times our memory.
FLOOR = 4.0
_MIB = 1 << 20

_log = logging.getLogger("bench.lm_head_memory")


def inputs(*, trained: bool, tokens: int = TOKENS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states (S, H), weight (V, H) and targets (S,), the same in every process."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(tokens, HIDDEN, generator=generator).requires_grad_()
    weight = torch.randn(VOCABULARY, HIDDEN, generator=generator).mul_(0.05).requires_grad_(trained)
    return hidden, weight, torch.randint(VOCABULARY, (tokens,), generator=generator)


def loss_of(way: str, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy, in nats."""
    if way == "plain":
        return functional.cross_entropy(hidden @ weight.t(), targets)
    return weighted_loss(hidden, Head(weight), targets, torch.full(targets.shape, 1 / len(targets)))


def measure(way: str, *, trained: bool) -> None:
    """Runs one way once and prints its extra peak memory in bytes, its seconds, its loss and sums of its gradients."""
    prepare_device()
    hidden, weight, targets = inputs(trained=trained)
    small = inputs(trained=False, tokens=2)
    torch.autograd.backward(
        loss_of(way, small[0], small[1][:100].clone(), small[2] % 100)
    )  # libraries load at first use
    forget_peak()
    before, began = resident_bytes("VmRSS"), time.perf_counter()
    loss = loss_of(way, hidden, weight, targets)
    torch.autograd.backward(loss)
    seconds = time.perf_counter() - began
    gradients = [t.grad for t in (hidden, weight) if t.grad is not None]
    found = {
        "extra_bytes": resident_bytes("VmHWM") - before,
        "seconds": seconds,
        "loss": float(loss.detach()),
        # Every 997th entry: enough to compare without writing megabytes.
        "gradients": [gradient.flatten()[::997].tolist() for gradient in gradients],
    }
    sys.stdout.write(json.dumps(found) + "\n")


def resident_bytes(name: str) -> int:
    """`VmRSS`: this process's memory now; `VmHWM`: the most since `forget_peak`. Linux tells in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def forget_peak() -> None:
    """From now on the kernel notes the peak anew."""
    Path("/proc/self/clear_refs").write_text("5")


def run(way: str, head: str) -> dict[str, Any]:
    """One measurement in a fresh process."""
    command = [sys.executable, "-m", "bench.lm_head_memory", way, head]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True, timeout=200)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    _log.info("%-6s %-7s %7.0f MiB %6.2f s", way, head, found["extra_bytes"] / _MIB, found["seconds"])
    return found


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference of the gradients, as a share of the largest gradient."""
    pairs = [(torch.tensor(a), torch.tensor(b)) for a, b in zip(one["gradients"], other["gradients"], strict=True)]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def main() -> int:
    """Prints the figure; exit code 1 when the gradients differ."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault(THREADS_VARIABLE, "1")
    if len(sys.argv) == 3:
        measure(sys.argv[1], trained=sys.argv[2] == "trained")
        return 0
    found = {(way, head): run(way, head) for head in ("frozen", "trained") for way in ("ours", "plain")}
    differences = {head: difference(found["ours", head], found["plain", head]) for head in ("frozen", "trained")}
    ratios = {
        head: found["plain", head]["extra_bytes"] / found["ours", head]["extra_bytes"] for head in ("frozen", "trained")
    }
    report(
        "lm_head_memory",
        ratios["frozen"],
        found["ours", "frozen"]["extra_bytes"] / _MIB,
        found["plain", "frozen"]["extra_bytes"] / _MIB,
        "MiB",
        {
            "floor": FLOOR,
            "ratio_trained_head": round(ratios["trained"], 2),
            "trained_head_mib": [round(found[way, "trained"]["extra_bytes"] / _MIB) for way in ("ours", "plain")],
            "time_ratio": round(found["plain", "frozen"]["seconds"] / found["ours", "frozen"]["seconds"], 2),
            "tokens": TOKENS,
            "hidden": HIDDEN,
            "vocabulary": VOCABULARY,
            "gradient_difference_max": float(f"{max(differences.values()):.2e}"),
            "loss_difference": abs(found["ours", "trained"]["loss"] - found["plain", "trained"]["loss"]),
        },
    )
    return 0 if max(differences.values()) <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
