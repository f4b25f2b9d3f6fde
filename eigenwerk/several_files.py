"""Several files as the one that is sent: a tar, the same bytes for the same files."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eigenwerk.errors import EigenwerkError


def named_files(paths: Sequence[Path], splits: Sequence[str]) -> dict[str, Path]:
    """What each file is called in the tar: its name, or `part/name` for `part=path`; a folder gives its files.

    Raises EigenwerkError for what is no file, and for two files of one name.
    """
    found: dict[str, Path] = {}
    for part, path in [("", path) for path in paths] + [_split(text) for text in splits]:
        inside = sorted(each for each in path.iterdir() if not each.name.startswith(".")) if path.is_dir() else [path]
        for file in inside:
            if not file.is_file():
                raise EigenwerkError(f"{file} is no file. Name CSV, TSV, JSONL, JSON or Parquet files.")
            name = f"{part}/{file.name}" if part else file.name
            if name in found:
                raise EigenwerkError(f"{found[name]} and {file} have the same name. Rename one of them.")
            found[name] = file
    if not found:
        raise EigenwerkError("There are no files. Name CSV, TSV, JSONL, JSON or Parquet files.")
    return found


@contextmanager
def bundled(files: dict[str, Path], name: str) -> Iterator[Path]:
    """`name.tar` with these files, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / f"{name.rpartition('/')[2]}.tar"
        with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as archive:
            for inside, path in files.items():
                member = tarfile.TarInfo(inside)
                member.size = path.stat().st_size
                with path.open("rb") as stream:
                    archive.addfile(member, stream)
        yield target


def _split(text: str) -> tuple[str, Path]:
    part, _, path = text.partition("=")
    if not path or not part or not part.isidentifier():
        raise EigenwerkError(f"{text!r} is no part of a split. Write --split train=FILE.")
    return part, Path(path)
