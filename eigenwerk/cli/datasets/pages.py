"""`datasets show`: what is known of a version without reading it again."""

from __future__ import annotations

from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, age, platform, say, say_json, say_table
from eigenwerk.reports.reporting import columns, size
from eigenwerk.resources import ColumnFacts, DatasetVersionDetail

#: Values of a column that are shown, and the characters of each.
_VALUES_SHOWN = 5
_VALUE_CHARS = 20


def show(
    reference: Annotated[str, typer.Argument(metavar="NAME[@V]", help="A data set, or OWNER/NAME; @ takes a version.")],
    as_json: JsonOption = False,
) -> None:
    """Show a version of a data set: its columns, how its file is read, what was noticed, and the other versions.

    Example: eigenwerk datasets show newsticker@2
    """
    with platform() as client:
        version = client.dataset_version(reference)
        versions = client.dataset_versions(version.reference.partition("@")[0])
    if as_json:
        say_json({**version.model_dump(mode="json"), "versions": [item.version for item in versions]})
        return
    facts = [
        ("data set", version.reference),
        ("file", f"{version.file_name}, {size(version.bytes)}, sha256 {version.sha256}"),
        ("rows", f"{version.rows:,}"),
        ("pushed", f"{age(version.created_at)} ago"),
        ("recognised", version.recognised),
        ("origin", version.origin),
        ("licence", version.license),
        ("versions", ", ".join(str(item.version) for item in versions)),
    ]
    for line in columns(["", ""], [[name, value] for name, value in facts if value]):
        say(line)
    for notice in version.notices:
        say(f"notice: {notice}")
    say()
    say_table(["COLUMN", "KIND", "EMPTY", "DISTINCT", "VALUES"], _column_rows(version), "It has no columns.")
    if version.files:
        say()
        rows = [[file.name, f"{file.rows:,}", file.recognised or ""] for file in version.files]
        say_table(["FILE", "ROWS", "RECOGNISED"], rows, "")


def _column_rows(version: DatasetVersionDetail) -> list[list[str]]:
    return [
        [
            name,
            column.kind,
            f"{column.empty:,}",
            f"{column.distinct:,}" + (" or more" if column.distinct_capped else ""),
            _values(column),
        ]
        for name, column in version.profile.columns.items()
    ]


def _values(column: ColumnFacts) -> str:
    """The most frequent, where any comes twice."""
    most = sorted(column.values.items(), key=lambda item: -item[1])[:_VALUES_SHOWN]
    if not most or most[0][1] == 1:
        return ""
    more = ", …" if len(column.values) > len(most) else ""
    return ", ".join(f"{_cut(value)} {count:,}" for value, count in most) + more


def _cut(value: str) -> str:
    line = " ".join(value.split())
    return line if len(line) <= _VALUE_CHARS else f"{line[: _VALUE_CHARS - 1]}…"
