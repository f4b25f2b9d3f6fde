"""Which files of a folder are sent as one table, and which are told to be left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from eigenwerk.errors import EigenwerkError
from eigenwerk.files.several_files import left_out, named_files
from jobspecs.problems import InvalidInput
from storage.tabular import detect_format


def folder(root: Path, *names: str) -> Path:
    root.mkdir()
    for name in names:
        (root / name).write_text("text\nA\n", encoding="utf-8")
    return root


def test_what_lies_beside_tables_is_left_out_and_named(tmp_path: Path) -> None:
    given = folder(tmp_path / "set", "a.csv", "b.csv.gz", "README.md", "LICENSE.txt", "notes.md", ".hidden")
    assert list(named_files(given)) == ["a.csv", "b.csv.gz"]
    assert [file.name for file in left_out(given)] == ["LICENSE.txt", "README.md", "notes.md"]
    assert left_out([given / "a.csv", given / "README.md"]) == {}
    # Whoever names a file means it.
    assert list(named_files([given / "a.csv", given / "README.md"])) == ["a.csv", "README.md"]
    parts = {"train": given, "test": folder(tmp_path / "test", "c.csv", "d.md")}
    assert [file.name for file in left_out(parts)] == ["LICENSE.txt", "README.md", "notes.md", "d.md"]


def test_texts_are_tables_where_there_are_no_others_and_a_packed_file_is_never_left_out(tmp_path: Path) -> None:
    assert list(named_files(folder(tmp_path / "texts", "a.txt", "b.txt", "c.md"))) == ["a.txt", "b.txt"]
    assert list(named_files(folder(tmp_path / "packed", "a.csv", "b.csv.zst"))) == ["a.csv", "b.csv.zst"]
    with pytest.raises(
        EigenwerkError, match=r"There are no tables in .*none, only README.md \(its ending is no table's\)"
    ):
        named_files(folder(tmp_path / "none", "README.md"))


@pytest.mark.parametrize(
    "name", ["data.xls", "c.csv.br", "d.tab", "e.tar.gz", "train.csv.gz.part", "f.7z", "g.parquet.gz"]
)
def test_what_looks_like_a_table_and_is_not_read_is_refused_with_the_remedy_and_never_left_out(
    tmp_path: Path, name: str
) -> None:
    given = folder(tmp_path / "set", "a.csv", name)
    assert set(named_files(given)) == {"a.csv", name}
    assert left_out(given) == {}
    with pytest.raises(InvalidInput, match="not read") as refused:
        detect_format(name)
    assert refused.value.problems[0].remedy


def test_what_libraries_leave_beside_rows_is_left_out_and_said(tmp_path: Path) -> None:
    given = folder(tmp_path / "set", "a.csv", "dataset_infos.json", "LICENSE.txt", "notes.md")
    assert list(named_files(given)) == ["a.csv"]
    assert {file.name: why for file, why in left_out(given).items()} == {
        "LICENSE.txt": "a text beside tables",
        "dataset_infos.json": "it describes tables",
        "notes.md": "its ending is no table's",
    }
    assert list(named_files(folder(tmp_path / "alone", "config.json"))) == ["config.json"]
