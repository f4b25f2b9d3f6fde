"""Names of classes in place of their numbers in Parquet files: `World` says more, also on a model's card, than 0.

The names are in the file where the `datasets` library wrote it, else on the card.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eigenwerk.errors import EigenwerkError

Names = Mapping[str, tuple[str, ...]]

#: What the `datasets` library keeps in a Parquet file, as JSON.
_KEPT = b"huggingface"
#: The number that stands for no class.
_UNLABELLED = -1


def with_class_names(path: Path, target: Path, known: Names) -> tuple[Path, dict[str, tuple[str, ...]]]:
    """The file with names, written to `target` row group by row group, and the columns that got some.

    It is the file itself when no column holds numbers of classes. Raises EigenwerkError when it can't be read, or
    holds a number that has no name.
    """
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    try:
        file = parquet.ParquetFile(path)
        schema = file.schema_arrow
        named = {**known, **_kept_names(schema.metadata or {})}
        wanted = {
            column: named[column]
            for column in schema.names
            if column in named and arrow.types.is_integer(_innermost(arrow, schema.field(column).type))
        }
        if not wanted:
            return path, {}
        # What the library kept says that the column holds numbers.
        metadata = {key: value for key, value in (schema.metadata or {}).items() if key != _KEPT}
        target.parent.mkdir()
        with parquet.ParquetWriter(target, _renamed(arrow, schema, wanted).with_metadata(metadata or None)) as writer:
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group)
                for column, names in wanted.items():
                    place = rows.schema.get_field_index(column)
                    rows = rows.set_column(place, column, _names_of(rows.column(place), names, path.name, column))
                writer.write_table(rows.replace_schema_metadata(metadata or None))
    except (arrow.ArrowException, OSError) as error:
        raise EigenwerkError(f"{path.name} can't be read, or written with names, as Parquet: {error}") from error
    return target, wanted


def _kept_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Column -> names as the `datasets` library wrote them."""
    try:
        features = json.loads(metadata.get(_KEPT, b"{}"))["info"]["features"]
        found = {column: _class_label(feature) for column, feature in features.items()}
        return {column: tuple(names) for column, names in found.items() if names}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _class_label(feature: Any) -> list[str] | None:
    """The names of a feature, or of what its lists hold."""
    while isinstance(feature, dict) and "feature" in feature:
        feature = feature["feature"]
    return feature["names"] if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None


def _innermost(arrow: Any, kind: Any) -> Any:
    """The type of a column's values, or of what its lists hold."""
    while arrow.types.is_list(kind) or arrow.types.is_large_list(kind):
        kind = kind.value_type
    return kind


def _texts_like(arrow: Any, kind: Any) -> Any:
    """Texts, in lists where there are lists."""
    if arrow.types.is_list(kind):
        return arrow.list_(_texts_like(arrow, kind.value_type))
    if arrow.types.is_large_list(kind):
        return arrow.large_list(_texts_like(arrow, kind.value_type))
    return arrow.string()


def _renamed(arrow: Any, schema: Any, wanted: Names) -> Any:
    for column in wanted:
        kind = _texts_like(arrow, schema.field(column).type)
        schema = schema.set(schema.get_field_index(column), arrow.field(column, kind))
    return schema


def _names_of(numbers: Any, names: tuple[str, ...], file: str, column: str) -> Any:
    """The column with names; no class becomes empty."""
    arrow: Any = importlib.import_module("pyarrow")
    compute: Any = importlib.import_module("pyarrow.compute")
    if not arrow.types.is_integer(numbers.type):
        lists = numbers.combine_chunks() if isinstance(numbers, arrow.ChunkedArray) else numbers
        inside = _names_of(lists.values, names, file, column)
        return type(lists).from_arrays(lists.offsets, inside, mask=lists.is_null())
    numbers = compute.if_else(compute.equal(numbers, _UNLABELLED), None, numbers)
    bounds = compute.min_max(numbers).as_py()
    if bounds["min"] is not None and not 0 <= bounds["min"] <= bounds["max"] < len(names):
        raise EigenwerkError(
            f"{file}: {column} holds numbers from {bounds['min']} to {bounds['max']}, and there are names for 0 to "
            f"{len(names) - 1}. Take the numbers as they are: --class-numbers"
        )
    return arrow.array(names, arrow.string()).take(numbers)
