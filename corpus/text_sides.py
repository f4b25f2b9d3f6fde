"""Texts that a scheme may look at, and texts that judge what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from corpus.cells import text_cell
from corpus.checks.rows import CheckedFile
from corpus.splits import prompt_split
from jobspecs.kinds.quantize import Quantize
from storage.tabular import read_rows


@dataclass(frozen=True)
class TextSides:
    """Each side in an order of chance, the same for the same seed: whoever needs a few takes the first."""

    calibration: tuple[str, ...]
    held_out: tuple[str, ...]


def text_sides(file: CheckedFile, held_out: CheckedFile | None, spec: Quantize) -> TextSides:
    """Reads the data set, and that of the section `validation` where it names one. Raises InvalidInput.

    A text that occurs several times is one, and of the two sides it is on the one that judges.
    """
    own, section = _distinct(file, spec.text), spec.validation
    if held_out is not None:
        judging = _distinct(held_out, spec.text)
        known = set(judging)
        calibration = [text for text in own if text not in known]
    else:
        numbers = np.arange(len(own), dtype=np.int64)
        tied = np.stack([numbers, numbers], axis=1)
        split = prompt_split(tied, rows=None, fraction=section.fraction, seed=section.seed)
        calibration = [own[row] for row in split.train.tolist()]
        judging = [own[row] for row in split.validation.tolist()]
    return TextSides(_shuffled(calibration, spec.calibration.seed), _shuffled(judging, section.seed))


def _distinct(file: CheckedFile, column: str) -> list[str]:
    return list(dict.fromkeys(_texts(file, column)))


def _texts(file: CheckedFile, column: str) -> Iterator[str]:
    with file.locating():
        rows = read_rows(file.path, file.fmt, [column], file_name=file.name)
        for number, row in enumerate(rows, start=1):
            yield text_cell(row[column], column, file.name, number)


def _shuffled(texts: Sequence[str], seed: int) -> tuple[str, ...]:
    return tuple(texts[place] for place in np.random.default_rng(seed).permutation(len(texts)).tolist())
