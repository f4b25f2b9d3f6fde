"""The README.md of a data set, which tells `load_dataset` what its file holds and how its text is to be read."""

from __future__ import annotations

import json
from typing import Any

from storage.tables import DatasetVersionRow
from storage.tabular import detect_format

CARD = "README.md"


def card(row: DatasetVersionRow) -> bytes:
    """YAML between dashes, then a line for people. Every value is JSON, which is YAML."""
    entry: dict[str, Any] = {
        "config_name": "default",
        "data_files": [{"split": "train", "path": list(file_names(row))}],
        **_reading(row),
    }
    lines = ["---", f"configs: {json.dumps([entry])}"]
    if row.license:
        lines.append(f"license: {json.dumps(row.license)}")
    about = f"{row.dataset.owner.name}/{row.dataset.name}@{row.version}: {row.rows} rows"
    origin = f", from {row.origin}" if row.origin else ""
    return "\n".join([*lines, "---", "", f"{about}{origin}.", ""]).encode()


def file_names(row: DatasetVersionRow) -> tuple[str, ...]:
    """Its file, or the files that it consists of."""
    dialect = row.how_to_read()
    return tuple(part.name for part in dialect.files) if dialect is not None and dialect.files else (row.file_name,)


def _reading(row: DatasetVersionRow) -> dict[str, Any]:
    """What `datasets` must be told of a CSV that is none with commas, in UTF-8, with a header."""
    dialect = row.how_to_read()
    if dialect is None or detect_format(row.file_name, dialect).kind != "csv":
        return {}
    told: dict[str, Any] = {}
    if dialect.delimiter not in (None, ","):
        told["sep"] = dialect.delimiter
    if dialect.encoding not in (None, "utf-8"):
        told["encoding"] = dialect.encoding
    if dialect.quote == "none":
        told["quoting"] = 3
    elif dialect.quote == "'":
        told["quotechar"] = "'"
    if dialect.skip_initial_space:
        told["skipinitialspace"] = True
    if dialect.skip_lines:
        told["skiprows"] = dialect.skip_lines
    if not dialect.has_header and dialect.columns:
        told |= {"names": list(dialect.columns), "header": None}
    return told
