"""The data set that `score-pairs` reads, and the one it makes of it: all columns as they were, and the score."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np
import numpy.typing as npt

from corpus.cells import number_cell, text_cell
from corpus.checks.rows import CheckedFile
from jobspecs.dialect import Dialect
from jobspecs.kinds.score_pairs import ScorePairs
from jobspecs.lifecycle import Reason
from jobspecs.problems import InvalidInput, Problem
from storage.tabular import detect_format, read_rows
from storage.tabular.formats import TEXT_KINDS
from storage.tabular.values import as_json
from workers.local_models.ranking_model import Pair, Scores
from workers.run.context import RunFailed

Floats = npt.NDArray[np.float64]
Cell = TypeVar("Cell")

#: Bars of a histogram.
_BINS = 20
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class PairTable:
    """The rows of a data set with the pairs in two of its columns; read anew each time, never held as a whole."""

    path: Path
    dialect: Dialect | None
    spec: ScorePairs

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row with all its columns. Raises RunFailed(invalid_dataset)."""
        try:
            yield from read_rows(self.path, detect_format(self.path.name, self.dialect))
        except InvalidInput as error:
            raise RunFailed(Reason.invalid_dataset, str(error)) from error

    def pairs(self) -> Iterator[Pair]:
        """The pair of every row. Raises RunFailed(invalid_dataset) with the row for an empty cell."""
        first, second = self.spec.pair
        for number, row in enumerate(self.rows(), start=1):
            yield self._cell(text_cell, row, first, number), self._cell(text_cell, row, second, number)

    def check(self) -> tuple[int, Floats | None]:
        """Reads every row once: their number, and their labels (N,) where the spec names a column of them.

        Raises RunFailed(invalid_dataset) with the row for what can't be used, before anything is scored.
        """
        labels: list[float] = []
        number = 0
        for number, row in enumerate(self.rows(), start=1):
            for column in self.spec.pair:
                self._cell(text_cell, row, column, number)
            if self.spec.score in row:
                message, remedy = "the data set already has this column.", "Choose another name for score."
                raise self._invalid(self.spec.score, number, message, remedy)
            if self.spec.label is not None:
                labels.append(self._cell(number_cell, row, self.spec.label, number))
        if number == 0:
            raise self._invalid(None, None, "the data set has no rows.", "Push a file with rows.")
        return number, np.array(labels) if self.spec.label is not None else None

    def _cell(self, read: Callable[[Any, str, str, int], Cell], row: dict[str, Any], column: str, number: int) -> Cell:
        try:
            with CheckedFile.of(self.path, self.dialect).locating():
                return read(row.get(column), column, self.path.name, number)
        except InvalidInput as error:
            raise RunFailed(Reason.invalid_dataset, str(error)) from error

    def _invalid(self, field: str | None, row: int | None, message: str, remedy: str) -> RunFailed:
        problem = Problem(file=self.path.name, row=row, field=field, message=message, remedy=remedy)
        return RunFailed(Reason.invalid_dataset, str(problem))


def write_scored(table: PairTable, scores: Scores, folder: Path) -> Path:
    """`<name>.csv.gz` for cells that are texts, else `<name>.jsonl.gz`: equal rows and scores give equal bytes."""
    as_csv = detect_format(table.path.name, table.dialect).kind in TEXT_KINDS
    path = folder / f"{table.spec.name}.{'csv' if as_csv else 'jsonl'}.gz"
    # The shortest decimal that is this float32: no digit is noise, none is missing.
    decimals = (float(str(score)) for score in scores)
    rows = ({**row, table.spec.score: score} for row, score in zip(table.rows(), decimals, strict=True))
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as stream,
    ):
        (_write_csv if as_csv else _write_json)(stream, rows)
    return path


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


def _write_csv(stream: TextIO, rows: Iterator[dict[str, Any]]) -> None:
    writer: Any = csv.writer(stream, lineterminator="\n")
    for number, row in enumerate(rows):
        if number == 0:
            writer.writerow(list(row))
        writer.writerow(list(row.values()))


def _write_json(stream: TextIO, rows: Iterator[dict[str, Any]]) -> None:
    for row in rows:
        stream.write(json.dumps(as_json(row), ensure_ascii=False, allow_nan=False) + "\n")
