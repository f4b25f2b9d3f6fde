"""Which files of a folder are sent as one table, and which are told to be left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from eigenwerk.errors import EigenwerkError
from eigenwerk.several_files import left_out, named_files


def folder(root: Path, *names: str) -> Path:
    root.mkdir()
    for name in names:
        (root / name).write_text("text\nA\n", encoding="utf-8")
    return root


def test_what_lies_beside_tables_is_left_out_and_named(tmp_path: Path) -> None:
    given = folder(tmp_path / "set", "a.csv", "b.csv.gz", "README.md", "LICENSE.txt", "notes.md", ".hidden")
    assert list(named_files(given)) == ["a.csv", "b.csv.gz"]
    assert [file.name for file in left_out(given)] == ["LICENSE.txt", "README.md", "notes.md"]
    assert left_out([given / "a.csv", given / "README.md"]) == []
    # Whoever names a file means it.
    assert list(named_files([given / "a.csv", given / "README.md"])) == ["a.csv", "README.md"]
    parts = {"train": given, "test": folder(tmp_path / "test", "c.csv", "d.md")}
    assert [file.name for file in left_out(parts)] == ["LICENSE.txt", "README.md", "notes.md", "d.md"]


def test_texts_are_tables_where_there_are_no_others_and_a_packed_file_is_never_left_out(tmp_path: Path) -> None:
    assert list(named_files(folder(tmp_path / "texts", "a.txt", "b.txt", "c.md"))) == ["a.txt", "b.txt"]
    assert list(named_files(folder(tmp_path / "packed", "a.csv", "b.csv.zst"))) == ["a.csv", "b.csv.zst"]
    with pytest.raises(EigenwerkError, match="There are no files in"):
        named_files(folder(tmp_path / "none", "README.md"))
