"""datasets push: files as the next version of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eigenwerk.cli.console import JsonOption, platform, say, say_json, transfer
from eigenwerk.files.several_files import PART, Files, named_files

_Given = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FILE...",
        help="CSV, TSV, TXT, CoNLL, JSONL, JSON (also .gz, .xz), XLSX, ODS or Parquet; several are one table.",
    ),
]
_Name = Annotated[
    str | None, typer.Option(help="The data set's name, or OWNER/NAME; the file's up to its first dot if absent.")
]
_Columns = Annotated[
    str | None, typer.Option(metavar="A,B,C", help="Names of the columns of a CSV, TSV or sheet without a header.")
]
_Delimiter = Annotated[
    str | None, typer.Option(help="What separates fields: comma, semicolon, tab, pipe or a character.")
]
_Quote = Annotated[
    str | None, typer.Option(metavar="none|\"|'", help="What quotes fields; none where quotes are text.")
]
_Sheet = Annotated[str | None, typer.Option(metavar="NAME|N", help="The sheet of a workbook; the first if absent.")]
_Encoding = Annotated[str | None, typer.Option(help="How the text is encoded: utf-8, cp1252, utf-16 and so on.")]
_Layout = Annotated[
    str | None, typer.Option(help="Where JSON has its rows: columns, index, split, array, lines or below:KEY.")
]
_Split = Annotated[
    list[str] | None, typer.Option(metavar="PART=FILE", help="A file of a split; the column split names its part.")
]


def push(
    files: _Given = None,
    name: _Name = None,
    columns: _Columns = None,
    delimiter: _Delimiter = None,
    quote: _Quote = None,
    sheet: _Sheet = None,
    encoding: _Encoding = None,
    layout: _Layout = None,
    split: _Split = None,
    as_json: JsonOption = False,
) -> None:
    """Send a file as the next version of a data set. It is checked before anything is stored.

    What is not told of a text table or a JSON file is recognised, and said.

    Several files with the same columns, or those of a folder, are one table.

    Example: eigenwerk datasets push newsticker.csv.gz --name newsticker
    """
    given = _given(files or [], split or [])
    paths = list(named_files(given).values())
    total_bytes = sum(path.stat().st_size for path in paths)
    with platform() as client, transfer(name or paths[0].name, total_bytes) as progress:
        names = None if columns is None else [column.strip() for column in columns.split(",")]
        version = client.push_dataset(
            given,
            name=name,
            columns=names,
            delimiter=delimiter,
            quote=quote,
            encoding=encoding,
            sheet=sheet,
            layout=layout,
            progress=progress,
        )
    if as_json:
        say_json(version)
    else:
        say(f"{version.name}@{version.version}  {version.rows:,} rows  columns: {', '.join(version.columns)}")
        if version.recognised:
            say(f"recognised: {version.recognised}")
        for notice in version.notices:
            say(f"notice: {notice}")


def _given(files: list[Path], splits: list[str]) -> Files:
    """Raises typer.BadParameter where there are none, or both."""
    if not splits:
        if not files:
            raise typer.BadParameter("name the files, or those of a split with --split train=FILE.", param_hint="FILE")
        return files
    if files:
        message = f"{files[0]} belongs to no part of the split. Write --split train={files[0]}."
        raise typer.BadParameter(message, param_hint="FILE")
    parts: dict[str, list[Path]] = {}
    for text in splits:
        part, _, path = text.partition("=")
        if not path or not PART.fullmatch(part):
            raise typer.BadParameter(f"{text!r} is no part of a split. Write train=FILE.", param_hint="--split")
        parts.setdefault(part, []).append(Path(path))
    return parts
