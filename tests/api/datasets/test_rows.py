"""Rows of pandas and datasets into a data set of a real platform, and out of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest

from eigenwerk import Client, EigenwerkError
from tests.api.conftest import Api

ROWS: list[dict[str, Any]] = [
    {"text": 'Schöne Grüße, "Ada"', "label": "good", "score": 0.1, "when": "2024-05-01"},
    {"text": "NA", "label": "bad", "score": 2.5, "when": "2024-05-02"},
    {"text": "zwei\nZeilen", "label": "good", "score": -3.0, "when": "2024-05-03"},
]


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    with Client(api.url, str(api.client.headers["Authorization"]).removeprefix("Bearer ")) as client:
        yield client


def rows_of(frame: Any) -> list[dict[str, Any]]:
    return list(frame.to_dict("records"))


@pytest.mark.parametrize("kind", [pandas.DataFrame, datasets.Dataset.from_list, list])
def test_rows_go_in_and_come_out_as_they_were(client: Client, kind: Any) -> None:
    version = client.push_dataset(kind(ROWS), name="rows")
    assert (version.rows, version.columns) == (3, ["text", "label", "score", "when"])
    assert rows_of(client.dataset("rows").to_pandas()) == ROWS
    assert client.dataset(f"rows@{version.version}").to_datasets().to_list() == ROWS


def test_parts_of_a_split_are_one_data_set(client: Client) -> None:
    parts = datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS[:2]), test=datasets.Dataset.from_list(ROWS[2:]))
    assert client.push_dataset(parts, name="parts").rows == 3
    frame = client.dataset("parts").to_pandas()
    assert sorted(frame["label"]) == ["bad", "good", "good"]


def test_classes_are_pushed_by_their_names(client: Client) -> None:
    features = datasets.Features({"label": datasets.ClassLabel(names=["bad", "good"])})
    client.push_dataset(datasets.Dataset.from_dict({"label": [1, 0]}, features=features), name="classes")
    assert list(client.dataset("classes").to_pandas()["label"]) == ["good", "bad"]


def test_a_file_is_read_as_the_platform_reads_it(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "grades.csv"
    file.write_bytes("Größe;Note\nNA;1\n;2\n".encode("cp1252"))
    client.push_dataset(file, name="grades")
    frame = client.dataset("grades").to_pandas()
    assert list(frame.columns) == ["Größe", "Note"]
    assert (frame["Größe"][0], bool(frame["Größe"].isna()[1]), list(frame["Note"])) == ("NA", True, [1, 2])


def test_what_is_no_table_of_pandas_is_refused_with_the_file(client: Client, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one line\nanother line\n", encoding="utf-8")
    client.push_dataset(tmp_path / "lines.txt", name="lines")
    with pytest.raises(EigenwerkError, match=r"no CSV, JSON or Parquet.*datasets download"):
        client.dataset("lines").to_pandas()


@pytest.mark.parametrize(
    ("rows", "word"),
    [
        ([{"text": object()}], "Row 1 can't be written"),
        (pandas.DataFrame([[1, 2]], columns=["a", "a"]), "can't be written"),
        (pandas.DataFrame({"a": []}), "no rows"),
        (pandas.Series([1]), "to_frame"),
    ],
)
def test_rows_that_are_no_table_are_refused_before_anything_is_sent(client: Client, rows: Any, word: str) -> None:
    with pytest.raises(EigenwerkError, match=word):
        client.push_dataset(rows, name="wrong")
    assert all(version.name != "wrong" for version in client.datasets())


def test_rows_need_a_name(client: Client) -> None:
    with pytest.raises(EigenwerkError, match="name="):
        client.push_dataset(ROWS)


@pytest.mark.parametrize("library", ["pandas", "datasets"])
def test_without_the_library_the_remedy_is_told(client: Client, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    client.push_dataset(ROWS, name="rows")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == library else find(name, *more))
    with pytest.raises(EigenwerkError, match=rf"pip install 'eigenwerk\[{library}\]'"):
        getattr(client.dataset("rows"), f"to_{library}")()
