"""Several files as the one that is sent: a tar, the same bytes for the same files."""

from __future__ import annotations

import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from eigenwerk.errors import EigenwerkError
from jobspecs.file_errors import why_not
from jobspecs.tables import BESIDE_ROWS, COMPRESSIONS, OTHER_COMPRESSIONS, TABLE_KINDS, UNREAD_TABLES

#: What a part of a split may be called.
PART = re.compile(r"\w[\w.-]*")
#: Endings of tables. Those that are not read are refused with what to do, and never left out.
_LOOK_LIKE_TABLES = frozenset((*TABLE_KINDS, *OTHER_COMPRESSIONS, *UNREAD_TABLES))
_REMEDY = "Name files of tables: .csv, .xlsx, .jsonl, .parquet and so on."

#: One file or several, or those of each part of a split, by its name. A folder stands for the tables in it.
Files = Path | Sequence[Path] | Mapping[str, Path | Sequence[Path]]


def named_files(files: Files) -> dict[str, Path]:
    """What each file is called in the tar: its name, or `part/name` where it belongs to a part.

    Raises EigenwerkError for what is no file, for two of one name, and when there is none.
    """
    found: dict[str, Path] = {}
    for part, path in _by_part(files):
        for file in _inside(path):
            name = f"{part}/{file.name}" if part else file.name
            if name in found:
                raise EigenwerkError(f"{found[name]} and {file} have the same name. Rename one of them.")
            found[name] = file
    if not found:
        named = ", ".join(str(path) for _, path in _by_part(files))
        if beside := ", ".join(f"{path.name} ({why})" for path, why in left_out(files).items()):
            raise EigenwerkError(f"There are no tables in {named}, only {beside}. {_REMEDY}")
        raise EigenwerkError(f"There are no files{f' in {named}' if named else ''}. {_REMEDY}")
    return found


@contextmanager
def as_one(found: Mapping[str, Path], title: str) -> Iterator[Path]:
    """The only file itself, if it belongs to no part; else `title.tar` with all, for as long as it is needed.

    Raises EigenwerkError when a file can't be read.
    """
    if len(found) == 1 and not any("/" in name for name in found):
        yield next(iter(found.values()))
        return
    with tempfile.TemporaryDirectory(prefix="eigenwerk-") as folder:
        target = Path(folder) / f"{title}.tar"
        _write(target, found)
        yield target


def _write(target: Path, found: Mapping[str, Path]) -> None:
    """Without times and owners, so that equal files give equal bytes."""
    try:
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
            for name, path in found.items():
                with path.open("rb") as stream:
                    member = tarfile.TarInfo(name)
                    member.size = path.stat().st_size
                    archive.addfile(member, stream)
    except OSError as error:
        raise EigenwerkError(
            f"The files can't be put into one, at {error.filename or target}: {why_not(error)}."
        ) from error


def _by_part(files: Files) -> Iterator[tuple[str | None, Path]]:
    for part, paths in files.items() if isinstance(files, Mapping) else [(None, files)]:
        if part is not None and not PART.fullmatch(part):
            raise EigenwerkError(f"{part!r} is no name for a part of a split. Write one such as train.")
        for path in [paths] if isinstance(paths, Path) else paths:
            yield part, path


def left_out(files: Files) -> dict[Path, str]:
    """Files of the folders among them that are not sent, and why."""
    folders = [path for _, path in _by_part(files) if path.is_dir()]
    return {file: _why(file) for folder in folders for file in _left_out_of(folder)}


def _left_out_of(folder: Path) -> list[Path]:
    inside = _in_folder(folder)
    return [file for file in inside if file not in _tables(inside)]


def _why(file: Path) -> str:
    if file.name in BESIDE_ROWS:
        return "it describes tables"
    return "a text beside tables" if _ending(file) == ".txt" else "its ending is no table's"


def _in_folder(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if not file.name.startswith("."))


def _tables(files: Sequence[Path]) -> list[Path]:
    """Those of the files that may be of one table; folders too, which are refused later."""
    found = [file for file in files if not file.is_file() or _ending(file) in _LOOK_LIKE_TABLES]
    rows = [file for file in found if _ending(file) != ".txt" and file.name not in BESIDE_ROWS]
    return rows if any(file.is_file() for file in rows) else found


def _ending(file: Path) -> str:
    name = file.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(f".{compression}")
    return Path(name).suffix


def _inside(path: Path) -> list[Path]:
    inside = _tables(_in_folder(path)) if path.is_dir() else [path]
    for file in inside:
        if not file.is_file():
            what = "is a folder: folders within folders are not read" if file.is_dir() else "does not exist"
            raise EigenwerkError(f"{file} {what}. {_REMEDY}")
    return inside
