"""The file of a model version that keeps what was predicted for each row that judged, for comparisons later.

One Parquet file, one row for each that was judged, in their order. It holds numbers of rows, digests of texts, labels
and predictions, never a text: a model may be shared with people who may not read its data. What each column means, and
everything else that the card's figures are computed from, stands as JSON under the key `eigenwerk` of its metadata.

Notation: N rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.splits import whole_groups
from jobspecs.manifest import PREDICTIONS_KEY, PREDICTIONS_PATH, DatasetOrigin
from workers.local_models.tokens import Int64s

#: Of the table before it is compressed; a classifier's row of two classes takes about 52 bytes.
BYTES_MAX = 64 * 1024 * 1024
#: What `corpus.checks.findings.text_hashes` does, for those who compute it of texts of their own.
_DIGEST = (
    "BLAKE2b with a digest of 8 bytes (not the first 8 of a longer one), read as a signed big-endian number, of the "
    "UTF-8 of {}, casefolded and with one space in place of any white space, none at the ends"
)
#: The same rows of the same set are kept of every model, or they could not be compared.
_SEED = 20

Part = Literal["validation", "test"]


@dataclass(frozen=True)
class Column:
    """One figure of every row: an Arrow array, an array (N,), or (N, C) for C figures. `meaning` has the unit."""

    name: str
    values: Any
    meaning: str


@dataclass(frozen=True)
class Judged:
    """The rows that judged: in which part they were, of which data set, and `numbers` (N,) and `texts` (N,) of them.

    `facts`: what else a reader needs, such as the deciding metric; plain JSON.
    """

    kind: str
    part: Part
    dataset: DatasetOrigin
    numbers: Int64s
    #: `text_hashes` of their texts.
    texts: Int64s
    #: What the text of a row is, in words.
    text: str
    columns: Sequence[Column]
    facts: Mapping[str, Any] = field(default_factory=dict)
    #: (N,) rows with the same number are judged together and kept together; None: each on its own.
    groups: Int64s | None = None

    def write(self, folder: Path, bytes_max: int = BYTES_MAX) -> Kept:
        """Writes the file below `folder`; of rows that take more than `bytes_max` a sample by chance."""
        table, total = self._table(), len(self.numbers)
        each = table.nbytes / max(1, total)
        if table.nbytes > bytes_max:
            table = table.take(_sample(self._groups(), int(bytes_max / each)))
        kept = Kept(table.num_rows, total, round(each, 1))
        (folder / PREDICTIONS_PATH).parent.mkdir(exist_ok=True)
        document = {
            "kind": self.kind,
            "part": self.part,
            "dataset": self.dataset.model_dump(include={"reference", "sha256"}),
            "rows": total,
            "kept": kept.rows,
            **self.facts,
            "columns": {column.name: column.meaning for column in self._columns()},
        }
        metadata = {PREDICTIONS_KEY: json.dumps(document, ensure_ascii=False)}
        pq.write_table(table.replace_schema_metadata(metadata), folder / PREDICTIONS_PATH, compression="zstd")
        return kept

    def _columns(self) -> list[Column]:
        part = pa.array([self.part]).dictionary_encode()
        return [
            Column("part", part.take(pa.array(np.zeros(len(self.numbers), np.int64))), "validation or test"),
            Column("row", self.numbers, "number of the row in the data set's file, from 1; 0: no row holds it"),
            Column("text", self.texts, _DIGEST.format(self.text)),
            *self.columns,
        ]

    def _table(self) -> pa.Table:
        return pa.table({column.name: _arrow(column.values) for column in self._columns()})

    def _groups(self) -> Int64s:
        return np.arange(len(self.numbers)) if self.groups is None else self.groups


@dataclass(frozen=True)
class Kept:
    """How many rows the file has, of so many that judged."""

    rows: int
    judged: int
    #: Bytes of a row before it is compressed.
    bytes_per_row: float

    @property
    def sentence(self) -> str:
        """For the card."""
        if not self.rows:
            return (
                f"None of the {self.judged:,} predictions is kept in `{PREDICTIONS_PATH}`: those that are judged "
                "together, of one query or text, take more than such a file may."
            )
        which = f"The {self.rows:,} predictions" if self.rows == self.judged else self._sampled
        return (
            f"{which} are kept in `{PREDICTIONS_PATH}`, with numbers of rows and digests of texts, without the texts."
        )

    @property
    def _sampled(self) -> str:
        return f"Of the {self.judged:,} predictions a sample of {self.rows:,}, by chance,"

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {"file": PREDICTIONS_PATH, "rows": self.rows, "judged": self.judged, "bytes_per_row": self.bytes_per_row}


def named(labels: Int64s, names: Sequence[str]) -> pa.Array:
    """(N,) the name of each label."""
    return pa.DictionaryArray.from_arrays(pa.array(labels, pa.int32()), pa.array(names, pa.string()))


def _arrow(values: Any) -> pa.Array:
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])
    return pa.array(values)


def _sample(groups: Int64s, rows: int) -> Int64s:
    """Whole groups by chance, as many as have room in `rows`; in their order."""
    _, firsts, places = np.unique(groups, return_index=True, return_inverse=True)
    order = np.random.default_rng(_SEED).permutation(firsts)
    return np.flatnonzero(whole_groups(places, order, rows))
