"""Several files as one table: the same columns, each read as it is written, and errors that name file and row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eigenwerk import EigenwerkError
from eigenwerk.several_files import bundled, named_files
from jobspecs.problems import InvalidInput, Problem
from storage.tabular import detect_format, profile_table, read_rows


def written(folder: Path, **contents: bytes) -> list[Path]:
    paths = [folder / name.replace("_", ".") for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_bytes(content)
    return paths


def refused(files: dict[str, Path]) -> Problem:
    with bundled(files, "t") as path, pytest.raises(InvalidInput) as error:
        profile_table(path, detect_format(path.name), path.name)
    return error.value.problems[0]


def test_files_of_any_format_are_one_table_that_a_worker_reads_the_same(tmp_path: Path) -> None:
    paths = written(
        tmp_path,
        a_csv="text;label\nzwei, drei;gut\ngroß;schlecht\n".encode("cp1252"),
        b_jsonl_gz=gzip.compress(json.dumps({"text": "vier", "label": "gut"}).encode()),
        c_json=json.dumps({"data": [{"text": "acht", "label": "gut"}]}).encode(),
    )
    pq.write_table(pa.Table.from_pylist([{"text": "neun", "label": "gut"}]), tmp_path / "d.parquet")
    files = named_files([*paths, tmp_path / "d.parquet"], [])
    with bundled(files, "own/t") as path, bundled(files, "own/t") as again:
        assert path.read_bytes() == again.read_bytes()
        profile = profile_table(path, detect_format(path.name), path.name)
        assert profile.dialect is not None
        assert [(part.name, part.rows) for part in profile.dialect.files] == [
            ("a.csv", 2),
            ("b.jsonl.gz", 1),
            ("c.json", 1),
            ("d.parquet", 1),
        ]
        rows = list(read_rows(path, detect_format("t.tar", profile.dialect), ["text"]))
    assert [row["text"] for row in rows] == ["zwei, drei", "groß", "vier", "acht", "neun"]


def test_a_split_of_the_files_becomes_a_column(tmp_path: Path) -> None:
    train, test = written(tmp_path, a_csv=b"text,label\na,x\n", b_csv=b"text,label\nb,y\n")
    with bundled(named_files([], [f"train={train}", f"test={test}"]), "t") as path:
        profile = profile_table(path, detect_format(path.name), path.name)
        rows = list(read_rows(path, detect_format("t.tar", profile.dialect), ["split", "text"]))
    assert rows == [{"split": "train", "text": "a"}, {"split": "test", "text": "b"}]


def test_what_is_wrong_is_named_with_its_file(tmp_path: Path) -> None:
    a, b, c = written(
        tmp_path, a_csv=b"text,label\na,x\n", b_csv=b"text,class\nb,y\n", c_csv=b"text,label\na,x\nb,y,z\n"
    )
    problem = refused(named_files([a, b], []))
    assert (problem.file, problem.field) == ("b.csv", "label")
    problem = refused(named_files([a, c], []))
    assert (problem.file, problem.row) == ("c.csv", 2)
    assert refused(named_files([a], [f"test={c}"])).file == "test/c.csv"
    with pytest.raises(EigenwerkError, match="same name"):
        named_files([a, a], [])
