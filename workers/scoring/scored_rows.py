"""The data set that `score-pairs` reads, and the one it makes of it: all columns as they were, and the score."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.cells import number_cell, text_cell
from jobspecs.kinds.score_pairs import ScorePairs
from workers.local_models.ranking_model import Pair, Scores
from workers.predicting.table_rows import TableRows, written_rows

Floats = npt.NDArray[np.float64]

#: Bars of a histogram.
_BINS = 20
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class PairTable:
    """The rows of a data set with the pairs in two of its columns; read anew each time, never held as a whole."""

    rows: TableRows
    spec: ScorePairs

    def pairs(self) -> Iterator[Pair]:
        """The pair of every row. Raises RunFailed(invalid_dataset) with the row for an empty cell."""
        first, second = self.spec.pair
        for number, row in enumerate(self.rows, start=1):
            yield self.rows.cell(text_cell, row, first, number), self.rows.cell(text_cell, row, second, number)

    def check(self) -> tuple[int, Floats | None]:
        """Reads every row once: their number, and their labels (N,) where the spec names a column of them.

        Raises RunFailed(invalid_dataset) with the row for what can't be used, before anything is scored.
        """
        labels: list[float] = []
        number = 0
        for number, row in enumerate(self.rows, start=1):
            for column in self.spec.pair:
                self.rows.cell(text_cell, row, column, number)
            if self.spec.score in row:
                message, remedy = "the data set already has this column.", "Choose another name for score."
                raise self.rows.invalid(self.spec.score, number, message, remedy)
            if self.spec.label is not None:
                labels.append(self.rows.cell(number_cell, row, self.spec.label, number))
        if number == 0:
            raise self.rows.invalid(None, None, "the data set has no rows.", "Push a file with rows.")
        return number, np.array(labels) if self.spec.label is not None else None


def write_scored(table: PairTable, scores: Scores, folder: Path) -> Path:
    """`<name>.csv.gz` for cells that are texts, else `<name>.jsonl.gz`: equal rows and scores give equal bytes."""
    suffix = table.rows.suffix
    path = folder / f"{table.spec.name}.{suffix}"
    rows = ({**row, table.spec.score: decimal(score)} for row, score in zip(table.rows, scores, strict=True))
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
        for number, row in enumerate(rows):
            packed.write(written_rows([row], suffix, first=number == 0))
    return path


def decimal(score: np.float32) -> float:
    """The shortest decimal that is this float32: no digit is noise, none is missing."""
    return float(str(score))


def distribution(values: Floats) -> dict[str, Any]:
    """Rows, mean, deviation, quantiles, and a histogram of 20 equal bins from the least value to the greatest."""
    counts, edges = np.histogram(values, bins=_BINS)
    bins = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    quantiles = np.quantile(values, _QUANTILES).tolist()
    return {
        "rows": len(values),
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "least": float(values.min()),
        "greatest": float(values.max()),
        "quantiles": {f"p{round(100 * share)}": value for share, value in zip(_QUANTILES, quantiles, strict=True)},
        "histogram": [{"low": low, "high": high, "rows": rows} for low, high, rows in bins],
    }
