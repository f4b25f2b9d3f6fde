"""Reading and profiling tables: what goes in comes out, and what is wrong is named with its row."""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobspecs.dialect import Dialect, named_columns
from jobspecs.problems import InvalidInput, Problem
from storage.tabular import TableFormat, detect_format, profile_table, read_rows

MIB = 1024 * 1024

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=10)


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    return list(read_rows(path, detect_format(path.name), **options))


def problem_of(path: Path, **options: Any) -> Problem:
    with pytest.raises(InvalidInput) as refused:
        rows_of(path, **options)
    [problem] = refused.value.problems
    assert problem.file == path.name
    assert problem.remedy
    return problem


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    header = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    rows = draw(st.lists(st.lists(texts, min_size=len(header), max_size=len(header)), min_size=1, max_size=8))
    return header, rows


@settings(max_examples=200, deadline=None)
@given(tables(), st.sampled_from([",", ";", "\t"]), st.booleans(), st.booleans())
def test_any_table_that_the_csv_module_writes_is_read_back_the_same(
    table: tuple[list[str], list[list[str]]], delimiter: str, gzipped: bool, mark: bool
) -> None:
    header, rows = table
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([header, *rows])
    content = text.getvalue().encode("utf-8-sig" if mark else "utf-8")
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / "table", gzip.compress(content) if gzipped else content)
        # One column is ambiguous without its delimiter: the writer leaves the other delimiters in texts unquoted.
        told = delimiter if len(header) == 1 else None
        read = list(read_rows(path, TableFormat("csv", "gz" if gzipped else None, Dialect(delimiter=told, quote='"'))))
    assert read == [dict(zip(header, row, strict=True)) for row in rows]


json_values = (
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
)
json_rows = st.dictionaries(texts, json_values | texts | st.lists(texts, max_size=3), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(st.lists(json_rows, min_size=1, max_size=8), st.booleans(), st.booleans())
def test_any_objects_written_as_json_lines_are_read_back_the_same(
    rows: list[dict[str, Any]], gzipped: bool, ascii_only: bool
) -> None:
    content = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / "table", gzip.compress(content) if gzipped else content)
        assert list(read_rows(path, TableFormat("jsonl", "gz" if gzipped else None))) == rows


@settings(max_examples=60, deadline=None)
@given(st.lists(json_rows, max_size=8), st.sampled_from(["", ".gz", ".xz"]), st.sampled_from([None, 1]))
def test_any_array_of_objects_is_read_back_the_same(
    rows: list[dict[str, Any]], ending: str, indent: int | None
) -> None:
    content = json.dumps(rows, ensure_ascii=False, indent=indent).encode()
    packed = gzip.compress(content) if ending == ".gz" else lzma.compress(content) if ending else content
    with tempfile.TemporaryDirectory() as folder:
        assert rows_of(written(Path(folder) / f"table.json{ending}", packed)) == rows


def test_an_array_larger_than_what_is_read_at_once_is_read_whole(tmp_path: Path) -> None:
    rows = [{"text": "ä" * (length % 70_001), "n": length} for length in range(0, 600_000, 9_973)]
    assert rows_of(written(tmp_path / "t.json", json.dumps(rows, ensure_ascii=False))) == rows
    long = [{"text": "long " * MIB}]
    assert rows_of(written(tmp_path / "long.json", json.dumps(long))) == long


def test_an_array_of_texts_is_a_table_with_one_column(tmp_path: Path) -> None:
    assert rows_of(written(tmp_path / "t.json", '["one", "two"]')) == [{"text": "one"}, {"text": "two"}]


@pytest.mark.parametrize(
    ("content", "row", "message"),
    [
        (b'{"a": 1}', None, "doesn't hold an array"),
        (b"", None, "doesn't hold an array"),
        (b'[{"a": 1}, 2]', 2, "not an object but a number"),
        (b'[{"a": 1}, {"a": 1, "a": 2}]', 2, "'a' appears twice"),
        (b'[{"a": 1}, {"a" 2}]', 2, "element 2 is not JSON"),
        (b'[{"a": 1}, {"a": ', 2, "element 2 is not JSON"),
        (b'[{"a": 1} {"a": 2}]', 1, "neither a comma nor a bracket"),
        (b'[{"a": 1},]', 2, "element 2 is not JSON"),
        (b'[{"a": 1}] x', None, "behind the array"),
        (b'[{"a": "\xff"}]', None, "not UTF-8"),
        (b'["' + b"a" * (17 * MIB) + b'"]', 1, "longer than 16 MiB"),
    ],
)
def test_a_bad_array_is_refused_with_its_row(tmp_path: Path, content: bytes, row: int | None, message: str) -> None:
    problem = problem_of(written(tmp_path / "t.json", content))
    assert message in problem.message
    assert problem.row == row


def test_xz_files_one_behind_the_other_are_read_and_damaged_ones_refused(tmp_path: Path) -> None:
    first, second = lzma.compress(b"text,label\n" + b"a,b\n" * 50_000), lzma.compress(b"c,d\n")
    rows = rows_of(written(tmp_path / "two.csv.xz", first + second))
    assert (len(rows), rows[-1]) == (50_001, {"text": "c", "label": "d"})
    assert "xz file ends too early" in problem_of(written(tmp_path / "cut.csv.xz", first[: len(first) // 2])).message
    assert "xz file is damaged" in problem_of(written(tmp_path / "plain.csv.xz", b"text,label\na,b\n")).message
    bomb = lzma.compress(b"a,b\n" + (b"x" * 5000 + b",b\n") * 8000)
    assert "more than 200 times" in problem_of(written(tmp_path / "bomb.csv.xz", bomb)).message


def test_a_csv_without_a_header_is_read_with_the_names_that_are_given(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "A plane takes off.,A plane is taking off.,5.0\na,b,0.5\n")
    fmt = detect_format(path.name, named_columns(["sentence1", "sentence2", "score"]))
    assert list(read_rows(path, fmt, ["score", "sentence1"])) == [
        {"score": "5.0", "sentence1": "A plane takes off."},
        {"score": "0.5", "sentence1": "a"},
    ]


@pytest.mark.parametrize(
    ("content", "header", "row", "message"),
    [
        ("a,b\nc,d\n", ["one"], 1, "2 fields, the names given are 1"),
        ("a,b\nc,d,e\n", ["one", "two"], 2, "3 fields, the names given are 2"),
        ("one,two\nc,d\n", ["one", "two"], 1, "first line holds the names"),
        ("a,b\n", ["one", "one"], None, "'one' appears twice"),
        ("a,b\n", ["one", " "], None, "column 2 has no name"),
    ],
)
def test_names_that_do_not_fit_the_file_are_refused(
    tmp_path: Path, content: str, header: list[str], row: int | None, message: str
) -> None:
    path = written(tmp_path / "t.csv", content)
    with pytest.raises(InvalidInput) as refused:
        list(read_rows(path, detect_format(path.name, named_columns(header))))
    assert message in str(refused.value)
    assert refused.value.problems[0].row == row


def test_parquet_is_read_back_the_same(tmp_path: Path) -> None:
    rows = [{"text": f"row {number}", "n": number, "tags": ["a"]} for number in range(2000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert rows_of(tmp_path / "t.parquet") == rows
    assert rows_of(tmp_path / "t.parquet", columns=["n", "text"])[7] == {"n": 7, "text": "row 7"}
    assert "tags, n" not in str(problem_of(tmp_path / "t.parquet", columns=["label"]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", TableFormat("csv")),
        ("A.CSV.GZ", TableFormat("csv", compression="gz")),
        ("a.tsv", TableFormat("csv", dialect=Dialect(delimiter="\t"))),
        ("a.b.jsonl.gz", TableFormat("jsonl", compression="gz")),
        ("a.json.xz", TableFormat("json", compression="xz")),
        ("a.parquet", TableFormat("parquet")),
    ],
)
def test_the_ending_tells_the_format(name: str, expected: TableFormat) -> None:
    assert detect_format(name) == expected


def test_a_table_that_is_packed_in_another_way_is_refused_with_the_ways_that_are_read() -> None:
    for name in ("a.csv.zst", "a.jsonl.bz2", "a.csv.zip", "A.CSV.ZST"):
        with pytest.raises(InvalidInput, match=r"Unpack the file, or pack it with gzip or xz: \.gz and \.xz are read"):
            detect_format(name)


@pytest.mark.parametrize("name", ["a.xlsx.gz", "a.parquet.gz", "a.tar.xz"])
def test_a_packed_file_that_packs_itself_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(InvalidInput, match="Unpack it, and push the"):
        detect_format(name)


@pytest.mark.parametrize("name", ["a.doc", "csv", ""])
def test_other_endings_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"Use \.csv"):
        detect_format(name)


@pytest.mark.parametrize(
    "content",
    [
        "text,label\nhello; you,good\n",
        "text;label\nhello, you;good\nno, really, no;bad\n",
        "text\tlabel\na, b\tgood\n",
        '"a,text";label\n"x;y";good\n',
        "text\r\nhello\r\n\r\n\r\n",
    ],
)
def test_the_delimiter_is_found_out(tmp_path: Path, content: str) -> None:
    [first, *_] = rows_of(written(tmp_path / "t.csv", content))
    assert len(first) == (1 if content.startswith("text\r") else 2)


@pytest.mark.parametrize(
    ("content", "row", "message"),
    [
        (b"", None, "no header"),
        (b"\n\n", None, "no header"),
        (b",,\n1,2,3\n", None, "no header"),
        (b"text,label,text\n1,2,3\n", None, "'text' appears twice"),
        (b"text,label\na,b\nc\n", 2, "1 fields, the header has 2"),
        (b'text,label\n"a\nb",c\nd,e,f\n', 2, "3 fields, the header has 2"),
        (b"text,label\na,b\n\nc,d\n", 2, "blank"),
        (b"text,label\na,\xc3\xbc\nc,\xe4\n", 2, "line 3 is not UTF-8: byte 3 is 0xe4"),
        (b"te\xfft,label\na,\xc3\xbc\n", None, "line 1 is not UTF-8"),
        (b"text,label\na,b\0\n", 1, "NUL byte at byte 4"),
        ("text,label\na,b\n".encode("utf-16-le"), None, "NUL byte"),
        (
            b'text,label\na,b\n"c,d\ne,f\n',
            2,
            "starts on line 3 can't be read: a quote that opens a field is never closed",
        ),
        (b'text,label\na,"b"x\n', 1, "starts on line 2"),
        (b"text,label\n" + b"a" * (MIB + 1) + b",b\n", 1, "a field is longer than 1,048,576 characters"),
        (b"text,label\n" + b"a" * (16 * MIB + 1), 1, "longer than 16 MiB"),
    ],
)
def test_a_bad_csv_is_refused_with_its_row(tmp_path: Path, content: bytes, row: int | None, message: str) -> None:
    problem = problem_of(written(tmp_path / "t.csv", content))
    assert message in problem.message
    assert problem.row == row


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1, 2]", "not an object but a list"),
        ("3", "not an object but a number"),
        ("null", "not an object but null"),
        ("{}", "without fields"),
        ('{"a": 1', "not JSON"),
        ("{'a': 1}", "not JSON"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1, "a": 2}', "'a' appears twice"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "can't be used"),
        ("", "line 2 is blank"),
    ],
)
def test_a_bad_json_line_is_refused_with_its_row(tmp_path: Path, line: str, message: str) -> None:
    problem = problem_of(written(tmp_path / "t.jsonl", f'{{"a": 0}}\n{line}\n{{"a": 1}}\n'))
    assert message in problem.message
    assert problem.row == 2


def test_bad_utf8_in_json_lines_names_the_row(tmp_path: Path) -> None:
    problem = problem_of(written(tmp_path / "t.jsonl", b'{"a": "ok"}\n{"a": "\xff"}\n'))
    assert (problem.row, "not UTF-8" in problem.message) == (2, True)


def test_a_cut_or_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress(b"text,label\n" + b"".join(b"%d,x\n" % number for number in range(100_000)))
    assert "ends too early" in problem_of(written(tmp_path / "cut.csv.gz", packed[: len(packed) // 2])).message
    flipped = bytearray(packed)
    flipped[-6] ^= 1
    assert "damaged" in problem_of(written(tmp_path / "flip.csv.gz", bytes(flipped))).message
    assert "damaged" in problem_of(written(tmp_path / "plain.csv.gz", b"text,label\na,b\n")).message


def test_an_exploding_gzip_file_is_stopped(tmp_path: Path) -> None:
    packed = gzip.compress(gzip_bomb := b"a,b\n" * (8 * MIB), 9)
    assert len(gzip_bomb) / len(packed) > 900
    bomb = written(tmp_path / "bomb.jsonl.gz", gzip.compress(b" " * 40 * MIB, 9))
    assert "more than 200 times" in problem_of(bomb).message
    table = written(tmp_path / "table.csv.gz", packed)
    assert "larger than 1,048,576 bytes" in problem_of(table, max_bytes=MIB).message


def test_what_was_read_ahead_does_not_hide_how_far_a_file_grows(tmp_path: Path) -> None:
    """A member of 1,032:1 followed by 100 KB that don't compress: they are read with it, and don't count yet."""
    rows = b"a,b\n" + (b"x" * 5000 + b",b\n") * 8000
    packed = gzip.compress(rows, 9) + gzip.compress(random.Random(1).randbytes(100_000))
    assert "more than 200 times" in problem_of(written(tmp_path / "t.csv.gz", packed)).message


def test_gzip_files_one_behind_the_other_are_read_also_with_zeros_between_them(tmp_path: Path) -> None:
    packed = gzip.compress(b"text,label\na,b\n") + b"\0" * 10_000 + gzip.compress(b"c,d\n")
    assert len(rows_of(written(tmp_path / "two.csv.gz", packed))) == 2


def test_a_parquet_file_of_one_long_text_many_times_is_stopped(tmp_path: Path) -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), ["x" * 1_000_000])
    pq.write_table(pa.table({"text": texts}), path := tmp_path / "t.parquet")
    assert path.stat().st_size < 100_000
    decoded_before = pa.total_allocated_bytes()
    with pytest.raises(InvalidInput, match="more than 200 times"):
        for _ in read_rows(path, detect_format(path.name)):
            assert pa.total_allocated_bytes() - decoded_before < 100 * MIB


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", ",".join(f"c{n}" for n in range(40_000)) + "\n", "more than 1000 columns"),
        ("t.csv", "x" * 2000 + ",b\n1,2\n", "name of column 1 is longer"),
        ("t.jsonl", "{" + ",".join(f'"k{n}":1' for n in range(200_000)) + ',"k0":2}', "'k0' appears twice"),
        ("t.jsonl", "{" + ",".join(f'"k{n}":1' for n in range(200_000)) + "}", "more than 1000 columns"),
        ("t.jsonl", '{"' + "x" * 2000 + '":1}', "name of a field is longer"),
    ],
)
def test_tables_of_too_many_columns_are_refused_in_time_that_grows_with_the_file(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    path = written(tmp_path / name, content)
    began_s = time.process_time()
    with pytest.raises(InvalidInput, match=words):
        profile_table(path, detect_format(name), name)
    # With the square of the columns it took 18 s and more.
    assert time.process_time() - began_s < 5


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(10_000))}), tmp_path / "t.parquet")
    content = (tmp_path / "t.parquet").read_bytes()
    for name, damaged in [("cut", content[:-20]), ("empty", b""), ("text", b"a,b\n1,2\n")]:
        assert "can't be read" in problem_of(written(tmp_path / f"{name}.parquet", damaged)).message
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "twice.parquet")
    assert "appears twice" in problem_of(tmp_path / "twice.parquet").message
    assert "larger than" in problem_of(tmp_path / "t.parquet", max_bytes=1000).message


def test_bad_text_in_parquet_names_row_and_column(tmp_path: Path) -> None:
    bad = pa.array([b"ok", b"\xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": bad}), tmp_path / "t.parquet")
    problem = problem_of(tmp_path / "t.parquet")
    assert (problem.row, problem.field) == (2, "text")


def test_an_unknown_column_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "text,label\na,b\n")
    assert rows_of(path, columns=["label"]) == [{"label": "b"}]
    problem = problem_of(path, columns=["class"])
    assert (problem.field, "text, label" in problem.message) == ("class", True)
