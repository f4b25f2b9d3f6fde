"""Small data for cross-encoders: a query is answered by the passages that share its word."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.models import BAD_WORDS, GOOD_WORDS, PLAIN_WORDS

WORDS = (*GOOD_WORDS, *BAD_WORDS)


def ranked_rows(queries: int = 24, passages: int = 4) -> list[tuple[str, str, int]]:
    """(query, passage, label): the first passage of each query answers it."""
    rows = []
    for number in range(queries):
        word = WORDS[number % len(WORDS)]
        plain = PLAIN_WORDS[number % len(PLAIN_WORDS)]
        for place in range(passages):
            other = WORDS[(number + 3 * place) % len(WORDS)]
            rows.append((f"{plain} {word} {number}", f"the {other} of town {number}", int(place == 0)))
    return rows


def graded_rows(rows: int = 80) -> list[tuple[str, str, float]]:
    """(sentence1, sentence2, score) from 0 to 5: the more words two sentences share, the higher."""
    table = []
    for number in range(rows):
        first = [WORDS[(number + step) % len(WORDS)] for step in range(5)]
        shared = number % 6
        second = first[:shared] + [PLAIN_WORDS[(number + step) % len(PLAIN_WORDS)] for step in range(5 - shared)]
        table.append((f"{' '.join(first)} {number}", " ".join(second), float(shared)))
    return table


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path
