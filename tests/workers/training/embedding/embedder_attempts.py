"""Data sets for embedders, and attempts at jobs over them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from tests.models import BAD_WORDS, GOOD_WORDS, PLAIN_WORDS
from tests.workers.training.attempts import Attempt

PAIRS: dict[str, Any] = {"sentence1": "a", "sentence2": "b", "score": "likeness", "score_range": [0, 5]}
SEARCH: dict[str, Any] = {"anchor": "question", "positive": "answer"}
CLASSES: dict[str, Any] = {"text": "text", "label": "topic"}


class EmbedderAttempt(Attempt):
    """An attempt at a `train-embedder` job that takes about a second."""

    def document(self, **changes: Any) -> dict[str, Any]:
        training = {
            "epochs": 2,
            "batch_size": 16,
            "learning_rate": 2e-3,
            "max_length": 32,
            "checkpoint_every_steps": 1,
            **changes.pop("training", {}),
        }
        document = {"kind": "train-embedder", "name": "tiny", "model": "tiny-bert@1", "dataset": "pairs@1"}
        return {**document, "training": training, **(changes or PAIRS)}


def write_table(path: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def scored_pairs(rows: int, seed: int = 5) -> list[tuple[str, str, float]]:
    """Sentences of good and bad words; alike (0 to 5) as far as they have the same share of good ones."""
    generator = np.random.default_rng(seed)
    pairs = []
    for row in range(rows):
        shares = generator.integers(0, 5, 2)
        first, second = (_sentence(int(share), generator, row) for share in shares)
        pairs.append((first, second, float(5 - 1.25 * abs(int(shares[0]) - int(shares[1])))))
    return pairs


def questions(rows: int, seed: int = 6, answers: int | None = None) -> list[tuple[str, str]]:
    """A question about a word, and the answer that has a word of its own for it; some answers serve twice."""
    generator = np.random.default_rng(seed)
    words = [*GOOD_WORDS, *BAD_WORDS]
    found = []
    for row in range(rows):
        topic = int(generator.integers(len(words)))
        other = words[(topic + 5) % len(words)]
        number = row % answers if answers else row
        found.append((f"the {words[topic]} {row}", f"a report of {other} {number}"))
    return found


def _sentence(good: int, generator: np.random.Generator, row: int) -> str:
    words = [*generator.choice(GOOD_WORDS, good), *generator.choice(BAD_WORDS, 4 - good)]
    words += [*generator.choice(PLAIN_WORDS, int(generator.integers(1, 8)))]
    return " ".join([*map(str, generator.permutation(words)), str(row)])
