"""Reads what a model version keeps of its held-out rows, as anybody would who has the artifact alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq


class Kept:
    """The file below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.table = pq.read_table(folder / "evaluation" / "held-out.parquet")
        self.facts: dict[str, Any] = json.loads(self.table.schema.metadata[b"eigenwerk"])

    def __getitem__(self, column: str) -> Any:
        """(N,) the values of a column, or (N, C)."""
        return np.array(self.table[column].to_pylist())

    def get(self, column: str) -> Any:
        """As above, or None without such a column."""
        return self[column] if column in self.table.column_names else None

    def places(self, column: str) -> Any:
        """(N,) where each label of the column stands among the classes."""
        return np.array([self.facts["classes"].index(label) for label in self.table[column].to_pylist()])


def closely(found: Any, told: Any) -> bool:
    """Whether two documents hold the same words and, to 12 digits, the same figures."""
    if isinstance(told, dict):
        return set(found) == set(told) and all(closely(found[key], told[key]) for key in told)
    if isinstance(told, list | tuple):
        return len(found) == len(told) and all(closely(one, other) for one, other in zip(found, told, strict=True))
    if isinstance(told, float):
        return bool(np.isclose(found, told, rtol=1e-12, atol=1e-12))
    return bool(found == told)
