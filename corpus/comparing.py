"""Two models by what was kept of the rows that judged them: which rows flipped, and the difference with its interval.

Reads two files as `evaluation/held-out.parquet` is; what stands in them may be foreign.

Notation: N rows; U units that are judged together (rows, or queries with their passages).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.bootstrap import Floats, Int64s, bootstrapped_means, interval
from jobspecs.manifest import PREDICTIONS_KEY

#: Units that are shown, those that changed most first.
SHOWN = 20
#: Of a table as it was kept: `workers.judging.held_out_file.BYTES_MAX`, and room for what Arrow adds.
_BYTES_MAX = 128 * 1024 * 1024


class Incomparable(Exception):
    """They can't be compared row by row; the message says why."""


@dataclass(frozen=True)
class _Measure:
    """A figure (U,) of each unit, higher is better; `rows` (U,) number one row of each in its data set's file."""

    name: str
    figures: Floats
    rows: Int64s
    #: (U,) units with one number are drawn together; None: each on its own.
    clusters: Int64s | None = None
    #: What is told of a unit beside its figure: label and prediction.
    told: Callable[[int], dict[str, str]] = lambda unit: {}


def compare(first: Path, second: Path) -> dict[str, Any]:
    """What `api.registry.comparing.RowByRow` tells, as plain JSON; or {"why_not"}.

    `difference`: second less first, with its 95 % interval over resamples of the units (pairs stay pairs).
    """
    try:
        return _compared(*(_Kept.read(path) for path in (first, second)))
    except Incomparable as error:
        return {"why_not": str(error)}


@dataclass(frozen=True)
class _Kept:
    """What a file holds: its document, and its table in the order of rows and texts."""

    document: Mapping[str, Any]
    table: pa.Table

    @classmethod
    def read(cls, path: Path) -> _Kept:
        """Raises Incomparable."""
        try:
            file = pq.ParquetFile(path)
            groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
            if sum(group.total_byte_size for group in groups) > _BYTES_MAX:
                raise Incomparable("the kept predictions are larger than such a file may be.")
            table = file.read()
            document = json.loads((table.schema.metadata or {})[PREDICTIONS_KEY.encode()])
            order = np.lexsort([table.column(name).to_numpy() for name in ("text", "row")])
            return cls({"kind": document["kind"], **document}, table.take(order))
        except (pa.ArrowException, ValueError, KeyError, TypeError) as error:
            raise Incomparable(f"the kept predictions can't be read ({type(error).__name__}).") from error

    def column(self, name: str) -> Any:
        return self.table.column(name).to_numpy()

    def words(self, name: str) -> list[str]:
        return [str(value) for value in self.table.column(name).to_pylist()]

    @property
    def judged_on(self) -> str:
        return f"{self.table.num_rows:,} rows of {self.document.get('dataset', {}).get('reference', 'unknown data')}"


def _compared(first: _Kept, second: _Kept) -> dict[str, Any]:
    if first.document["kind"] != second.document["kind"]:
        raise Incomparable(f"one was made by {first.document['kind']}, the other by {second.document['kind']}.")
    _check_same_rows(first, second)
    try:
        measures = [_MEASURES[first.document["kind"]](kept) for kept in (first, second)]
    except KeyError as error:
        raise Incomparable(f"what is kept of one of them lacks {error}.") from error
    one, other = measures
    if one.name != other.name:
        raise Incomparable(f"one was judged by {one.name}, the other by {other.name}.")
    gained = other.figures - one.figures
    low, high = interval(bootstrapped_means(gained[None, :], clusters=one.clusters)[0])
    changed = np.flatnonzero(gained)
    shown = changed[np.argsort(-np.abs(gained[changed]), kind="stable")][:SHOWN]
    return {
        "measure": one.name,
        "units": len(gained),
        "first": float(one.figures.mean()),
        "second": float(other.figures.mean()),
        "difference": float(gained.mean()),
        "low": low,
        "high": high,
        "better": int((gained > 0).sum()),
        "worse": int((gained < 0).sum()),
        "changed": [_changed(one, other, int(unit)) for unit in shown],
    }


def _check_same_rows(first: _Kept, second: _Kept) -> None:
    keys = [{*zip(kept.column("row").tolist(), kept.column("text").tolist(), strict=True)} for kept in (first, second)]
    same = all(np.array_equal(first.column(name), second.column(name)) for name in ("row", "text"))
    if not same or not len(first.table):
        raise Incomparable(
            f"they were judged on different rows: {first.judged_on}, and {second.judged_on}; "
            f"{len(keys[0] & keys[1]):,} are the same."
        )


def _changed(one: _Measure, other: _Measure, unit: int) -> dict[str, Any]:
    told = {"first_said": one.told(unit).get("said"), "second_said": other.told(unit).get("said")}
    figures = {"first": float(one.figures[unit]), "second": float(other.figures[unit])}
    return {"row": int(one.rows[unit]), "label": one.told(unit).get("label"), **figures, **told}


def _classifier(kept: _Kept) -> _Measure:
    labels, predicted = kept.words("label"), kept.words("predicted")
    right = np.array([label == said for label, said in zip(labels, predicted, strict=True)], dtype=np.float64)
    return _Measure(
        "accuracy", right, kept.column("row"), told=lambda unit: {"label": labels[unit], "said": predicted[unit]}
    )


def _embedder(kept: _Kept) -> _Measure:
    clusters = _numbered(kept.column("cluster")) if "cluster" in kept.table.column_names else None
    if "score" in kept.table.column_names:
        closeness = -np.abs(kept.column("trained").astype(np.float64) - kept.column("score"))
        return _Measure("closeness of cosine and score (0 at best)", closeness, kept.column("row"), clusters)
    name = next((name for name in kept.table.column_names if name.startswith("trained_ndcg")), "trained_ndcg")
    return _Measure("nDCG@10", kept.column(name).astype(np.float64), kept.column("row"), clusters)


def _reranker(kept: _Kept) -> _Measure:
    """Whether the passage that is put first is one of the best of its query."""
    queries, score, label = _numbered(kept.column("query_text")), kept.column("trained"), kept.column("label")
    order = np.lexsort((-score, queries))
    firsts = order[np.unique(queries[order], return_index=True)[1]]
    best = np.full(len(firsts), -np.inf)
    np.maximum.at(best, queries, label)
    return _Measure("best passage first", (label[firsts] >= best).astype(np.float64), kept.column("row")[firsts])


def _language_model(kept: _Kept) -> _Measure:
    if "reward" in kept.table.column_names and "rejected_log_prob" in kept.table.column_names:
        preferred = (kept.column("reward") > 0).astype(np.float64)
        return _Measure("preferred answer likelier than before", preferred, kept.column("row"))
    tokens = np.maximum(1, kept.column("tokens"))
    return _Measure("log-probability per token, in nats", kept.column("log_prob") / tokens, kept.column("row"))


def _numbered(values: Any) -> Int64s:
    """From 0 without gaps, by value."""
    found: Int64s = np.unique(values, return_inverse=True)[1]
    return found


_MEASURES: Mapping[str, Callable[[_Kept], _Measure]] = {
    "train-classifier": _classifier,
    "train-embedder": _embedder,
    "train-reranker": _reranker,
    "finetune-llm": _language_model,
}
