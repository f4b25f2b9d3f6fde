"""What one pass over a table learns about it."""

from __future__ import annotations

import json
import math
import time
import tracemalloc
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobspecs.problems import InvalidInput
from jobspecs.profile import DatasetProfile
from storage.tabular import TableFormat, detect_format, first_rows, profile_table

MIB = 1024 * 1024


def written(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def profile_of(path: Path) -> DatasetProfile:
    return profile_table(path, detect_format(path.name), path.name)


def test_a_profile_counts_what_a_spec_needs(tmp_path: Path) -> None:
    content = "text,label,n,flag\nhello,good,1,true\nbye,bad,-2.5e3,False\nhm,good,,true\n  ,good,3,true\n"
    profile = profile_of(written(tmp_path / "t.csv", content))
    assert profile.rows == 4
    assert {name: column.kind for name, column in profile.columns.items()} == {
        "text": "text",
        "label": "text",
        "n": "number",
        "flag": "boolean",
    }
    assert profile.columns["label"].values == {"good": 3, "bad": 1}
    text = profile.columns["text"]
    assert (text.empty, text.first_empty_row, text.distinct, text.longest_chars) == (1, 4, 3, 5)
    assert text.mean_chars == pytest.approx(10 / 3)
    assert (profile.columns["n"].empty, profile.columns["n"].first_empty_row) == (1, 3)


def test_a_profile_of_json_keeps_types_and_counts_missing_fields(tmp_path: Path) -> None:
    lines = [
        '{"a": 1, "b": true}',
        '{"a": 2.5}',
        '{"b": null, "c": ["x"]}',
        '{"a": 7, "b": false, "d": "1"}',
        '{"d": 2}',
    ]
    profile = profile_of(written(tmp_path / "t.jsonl", "\n".join(lines)))
    seen = {name: (column.kind, column.empty, column.first_empty_row) for name, column in profile.columns.items()}
    assert seen == {"a": ("number", 2, 3), "b": ("boolean", 3, 2), "c": ("other", 4, 1), "d": ("other", 3, 1)}
    assert profile.columns["b"].values == {"true": 1, "false": 1}


def test_a_profile_of_parquet_takes_nan_as_empty_and_decimals_as_numbers(tmp_path: Path) -> None:
    table = pa.table({"x": [1.5, float("nan"), None], "d": [Decimal("1.10"), None, None]})
    pq.write_table(table, tmp_path / "t.parquet")
    profile = profile_of(tmp_path / "t.parquet")
    assert (profile.columns["x"].kind, profile.columns["x"].empty) == ("number", 2)
    assert (profile.columns["d"].kind, profile.columns["d"].values) == ("number", {"1.10": 1})


@pytest.mark.parametrize("count", [1000, 1001])
def test_distinct_values_are_exact_up_to_a_thousand(tmp_path: Path, count: int) -> None:
    content = "n\n" + "".join(f"v{number % count}\n" for number in range(3000))
    column = profile_of(written(tmp_path / "t.csv", content)).columns["n"]
    assert (column.distinct, column.distinct_capped, len(column.values)) == (
        1000,
        count > 1000,
        1000 if count == 1000 else 0,
    )


def test_few_long_texts_are_counted_but_not_kept(tmp_path: Path) -> None:
    content = "text\n" + "".join(f"{number} {'x' * 10_000}\n" for number in range(100))
    column = profile_of(written(tmp_path / "t.csv", content)).columns["text"]
    assert (column.distinct, column.distinct_capped, column.values) == (100, True, {})


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_an_empty_table_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="no rows"):
        profile_of(written(tmp_path / name, "text,label\n" if name == "t.csv" else "\n"))


@pytest.mark.parametrize("value", ["\\u0000", "\\ud800"])
def test_text_that_no_database_can_store_is_refused(tmp_path: Path, value: str) -> None:
    path = written(tmp_path / "t.jsonl", f'{{"a": "ok"}}\n{{"a": "{value}"}}\n')
    with pytest.raises(InvalidInput) as refused:
        profile_of(path)
    assert (refused.value.problems[0].row, refused.value.problems[0].field) == (2, "a")


def test_memory_stays_bounded_on_many_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with path.open("w") as file:
        file.write("text,label\n")
        for number in range(200_000):
            file.write(f"this is headline number {number} of very many,{'good' if number % 3 else 'bad'}\n")
    tracemalloc.start()
    profile = profile_of(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert profile.rows == 200_000
    assert profile.columns["label"].values == {"good": 133_333, "bad": 66_667}
    assert path.stat().st_size > 8 * MIB
    assert peak < 3 * MIB


def test_columns_that_a_row_does_not_have_cost_nothing(tmp_path: Path) -> None:
    seconds = {}
    for count in (1, 1000):
        path = tmp_path / f"{count}.jsonl"
        first = json.dumps({f"c{number}": 1 for number in range(count)})
        path.write_text(first + '\n{"c0": 1}' * 10_000 + '\n{"c0": null}')
        began = time.process_time()
        columns = profile_table(path, TableFormat("jsonl"), "rows.jsonl").columns
        seconds[count] = time.process_time() - began
        assert (columns["c0"].empty, columns["c0"].first_empty_row) == (1, 10_002)
    assert (columns["c999"].empty, columns["c999"].first_empty_row) == (10_001, 2)
    assert seconds[1000] < 6 * seconds[1], "ten million absent values took sixty times as long"


def test_values_that_json_lacks_are_never_spelled_as_python_does(tmp_path: Path) -> None:
    moment = datetime(2026, 11, 28, 9, 30)
    row = {
        "utf8": "Hafen für Öl".encode(),
        "bytes": b"\xff\x00",
        "moment": moment,
        "lasted": timedelta(days=1, hours=2, minutes=30),
        "nested": {"day": moment.date(), "raw": b"\xff", "share": math.nan, "price": Decimal("1.50")},
    }
    pq.write_table(pa.Table.from_pylist([row, row]), tmp_path / "t.parquet")
    table = detect_format("t.parquet")
    columns = profile_table(tmp_path / "t.parquet", table, "t.parquet").columns
    [shown] = first_rows(tmp_path / "t.parquet", table, "t.parquet", 1, cut=False)
    nested = {"day": "2026-11-28", "raw": "/w==", "share": None, "price": "1.50"}
    assert shown == {
        "utf8": "Hafen für Öl",
        "bytes": "/wA=",
        "moment": "2026-11-28T09:30:00",
        "lasted": "26:30:00",
        "nested": nested,
    }
    texts = {name: next(iter(column.values)) for name, column in columns.items()}
    assert texts == {**shown, "nested": json.dumps(nested)}
    assert [column.kind for column in columns.values()] == ["text", "other", "other", "other", "other"]
