"""Several files as one table: the same columns, each read as it is written, and errors that name file and row."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.checks.rows import CheckedFile
from corpus.held_out import DataPart
from eigenwerk import EigenwerkError
from eigenwerk.files.several_files import Files, as_one, named_files
from jobspecs.problems import InvalidInput, Problem
from jobspecs.tables import Compression
from storage.tabular import content as bounded
from storage.tabular import detect_format, first_rows, lines, profile_table, read_rows, recognising, recognising_layouts
from storage.tabular.formats import TABLE_BYTES_MAX
from tests.storage.workbooks import xlsx


def written(folder: Path, **contents: bytes) -> list[Path]:
    paths = [folder / name.replace("_", ".") for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.write_bytes(content)
    return paths


def refused(files: Files) -> Problem:
    with as_one(named_files(files), "t") as path, pytest.raises(InvalidInput) as error:
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
    xlsx(tmp_path / "e.xlsx", {"Alt": [["nichts"]], "Daten": [["text", "label"], ["zehn", "gut"]]}, hidden="Alt")
    names = {path: path.name for path in [*paths, tmp_path / "d.parquet", tmp_path / "e.xlsx"]}
    with as_one(named_files(tmp_path), "t") as path, as_one(named_files(list(names)), "t") as again:
        assert path.read_bytes() == again.read_bytes()
        profile = profile_table(path, detect_format(path.name), path.name)
        assert profile.dialect is not None
        assert [part.name for part in profile.dialect.files] == list(names.values())
        assert [part.rows for part in profile.dialect.files] == [2, 1, 1, 1, 1]
        table = detect_format("t.tar", profile.dialect)
        rows = list(read_rows(path, table, ["text"]))
        assert (table.whole, len(first_rows(path, table, "t.tar", 3, cut=False))) == (True, 3)
    assert [row["text"] for row in rows] == ["zwei, drei", "groß", "vier", "acht", "neun", "zehn"]


def test_a_part_per_file_becomes_the_column_split(tmp_path: Path) -> None:
    train, more, test = written(
        tmp_path, a_csv=b"text,label\na,x\n", b_csv=b"text,label\nb,y\n", c_csv=b"text,label\nc,y\n"
    )
    with as_one(named_files({"train": [train, more], "test": test}), "t") as path:
        profile = profile_table(path, detect_format(path.name), path.name)
        rows = list(read_rows(path, detect_format("t.tar", profile.dialect), ["split", "text"]))
    assert [list(row.values()) for row in rows] == [["train", "a"], ["train", "b"], ["test", "c"]]
    assert profile.columns["split"].values == {"train": 2, "test": 1}


def test_what_is_wrong_is_named_with_its_file_and_the_row_there(tmp_path: Path) -> None:
    a, b, c, d = written(
        tmp_path,
        a_csv=b"text,label\na,x\nb,y\n",
        b_csv=b"text,class\nb,y\n",
        c_csv=b"text,label\na,x\nb,y,z\n",
        d_jsonl=b'{"text": "a", "label": "x"}\n{"text": "\\u0000", "label": "x"}\n',
    )
    problem = refused([a, b])
    assert (problem.file, problem.field) == ("b.csv", "label")
    problem = refused([a, c])
    assert (problem.file, problem.row) == ("c.csv", 2)
    problem = refused([a, d])
    assert (problem.file, problem.row, problem.field) == ("d.jsonl", 2, "text")
    assert refused({"test": c}).file == "test/c.csv"
    for files in ([a, a], {"../up": a}, tmp_path / "absent.csv", []):
        with pytest.raises(EigenwerkError):
            named_files(files)


def test_a_tar_that_is_damaged_or_joined_loses_no_file_silently(tmp_path: Path) -> None:
    """tarfile ends at what it can't read as if nothing followed."""
    paths = written(tmp_path, a_csv=b"text,label\na,x\n", b_csv=b"text,label\nb,y\n")
    with as_one(named_files(paths), "t") as path:
        whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[1024 + 5] ^= 1
    damaged = {
        "comes what is no file": [whole + whole, bytes(flipped), whole[: 1024 + 300]],
        "ends too early": [whole[:1024], whole[: 2048 + 300]],
    }
    tar = tmp_path / "t.tar"
    for words, contents in damaged.items():
        for content in contents:
            tar.write_bytes(content)
            with pytest.raises(InvalidInput, match=words):
                profile_table(tar, detect_format(tar.name), tar.name)
    tar.write_bytes(whole[:2560])
    profile = profile_table(tar, detect_format(tar.name), tar.name)
    assert profile.rows == 2
    tar.write_bytes(whole[:1024])
    assert len(first_rows(tar, detect_format(tar.name, profile.dialect), tar.name, 1, cut=True)) == 1


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.xz", "a.jsonl.gz"])
def test_a_file_that_grows_too_far_is_refused_before_a_row_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unread(*arguments: object, **named: object) -> None:
        raise AssertionError("it is parsed")

    monkeypatch.setattr(recognising, "recognised", unread)
    pack = gzip.compress if name.endswith(".gz") else lzma.compress
    path = tmp_path / name
    path.write_bytes(pack(b"a,b\n" + b"x,y\n" * 5_000_000))
    with pytest.raises(InvalidInput, match="grows to more than 200 times its size"):
        profile_table(path, detect_format(name), name)


def test_files_that_grow_are_judged_together_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each within its own grace. A tar has 10 KB at least: three of them grow further than 200 times that.
    monkeypatch.setattr(bounded, "GRACE_BYTES", 1_000_000)
    growing = gzip.compress((b'{"text": "' + b"a" * 100_000 + b'"}\n') * 8)
    paths = written(tmp_path, **{f"{name}_jsonl_gz": growing for name in "abc"})
    with as_one(named_files(paths[:2]), "t") as path:
        assert profile_table(path, detect_format(path.name), path.name).rows == 16
    problem = refused(paths)
    assert (problem.file, "more than 200 times the size of them all" in problem.message) == ("c.jsonl.gz", True)


def test_rows_beyond_the_limit_are_refused_before_the_others_are_read(tmp_path: Path) -> None:
    row = b'{"text": "a"}\n'
    paths = written(tmp_path, a_jsonl=row * 2, b_jsonl=row * 100 + b"{broken")
    with as_one(named_files(paths), "t") as path, pytest.raises(InvalidInput, match="more than 3 rows"):
        profile_table(path, detect_format(path.name), path.name, max_rows=3)


def test_what_push_took_within_a_larger_bound_can_be_read_by_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [path] = written(tmp_path, a_jsonl=b'{"text": "a"}\n')
    bounds: set[int] = set()
    opened = bounded.open_content

    def told(path: Path, file: str, *, compression: Compression | None, max_bytes: int) -> Any:
        bounds.add(max_bytes)
        return opened(path, file, compression=compression, max_bytes=max_bytes)

    for module in (lines, recognising_layouts):
        monkeypatch.setattr(module, "open_content", told)
    profile_table(path, detect_format(path.name), path.name, max_bytes=2 * TABLE_BYTES_MAX)
    assert bounds == {2 * TABLE_BYTES_MAX}
    bounds.clear()
    assert len(list(DataPart(CheckedFile.of(path)).rows(["text"]))) == 1
    assert bounds
    assert min(bounds) > 2 * TABLE_BYTES_MAX
