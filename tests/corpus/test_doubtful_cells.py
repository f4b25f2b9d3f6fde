"""Cells that programs wrote and nobody meant: refused, or taken with a warning that names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from corpus.cells import number_cell
from jobspecs.problems import InvalidInput
from tests.pushing import push


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("label", ["['a', 'b']", '["b"]', "[0, 1]", "[]"])
def test_a_list_that_is_written_as_a_text_is_no_class(label: str, tmp_path: Path) -> None:
    rows = [{"text": f"satz {n}", "label": label if n % 2 else "a"} for n in range(8)]
    report = push(table(tmp_path / "rows.jsonl", rows)).check("train-classifier")
    assert report.refused == 4
    first = report.refused_rows[0]
    assert (first.row, first.field, first.message) == (2, "label", "several labels per row are not supported.")


@pytest.mark.parametrize("label", ["[NSFW]", "[a]", "a, b", "B[1]"])
def test_brackets_alone_make_no_list(label: str, tmp_path: Path) -> None:
    rows = [{"text": f"satz {n}", "label": label if n % 2 else "a"} for n in range(8)]
    assert label in (push(table(tmp_path / "rows.jsonl", rows)).check("train-classifier").classes or {})


def test_an_object_that_is_written_as_a_text_is_no_class(tmp_path: Path) -> None:
    rows = [{"text": f"satz {n}", "label": '{"x": 1}' if n % 2 else "a"} for n in range(8)]
    report = push(table(tmp_path / "rows.jsonl", rows)).check("train-classifier")
    assert (report.refused, report.refused_rows[0].message) == (4, "it is not a text but an object.")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"label": "NA"}, "'NA' is how programs write that there is no value"),
        ({"label": "\\N"}, "how programs write that there is no value"),
        ({"text": "nan"}, "'nan' is how programs write"),
        ({"text": "b'gr\\xc3\\xbcn'"}, "bytes as Python writes them"),
        ({"text": "['ein', 'satz']"}, "lists or objects as programs write them"),
        ({"text": "Das GerÃ¤t lÃ¤uft"}, "decoded in the wrong way"),
        ({"text": "M&uuml;ller &amp; Sohn"}, "as HTML writes them, such as &uuml;"),
    ],
)
def test_what_a_program_wrote_is_said_with_its_rows(row: dict[str, str], words: str, tmp_path: Path) -> None:
    rows: list[dict[str, str]] = [{"text": f"satz {n}", "label": "xy"[n % 2]} for n in range(8)]
    rows[3] |= row
    report = push(table(tmp_path / "rows.jsonl", rows)).check("train-classifier")
    [warning] = [problem for problem in report.warnings if words in problem.message]
    assert (warning.row, warning.field, bool(warning.remedy)) == (4, next(iter(row)), True)


@pytest.mark.parametrize("text", ["1,5", "1.234,50", "1,234.50", "12,5%", "1_000", "Infinity", "1e999"])
def test_a_number_that_can_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as error:
        number_cell(text, "score", "t.csv", 3)
    [problem] = error.value.problems
    assert (problem.field, problem.file, problem.row) == ("score", "t.csv", 3)
    assert ("point before the decimals" in (problem.remedy or "")) == ("," in text)


@pytest.mark.parametrize("kind", ["train-embedder", "train-reranker"])
def test_columns_of_ids_are_named_as_such(kind: str, tmp_path: Path) -> None:
    """Relevance judgements point into files of queries and passages."""
    about: dict[str, Any] = {"anchor": "q"} if kind == "train-embedder" else {"query": "q"}
    about["positive"] = "p"
    rows = [{"q": f"PLAIN-{n}", "p": f"MED{n}"} for n in range(9)]
    warned = push(table(tmp_path / "ids.jsonl", rows)).check(kind, **about).warnings
    assert [problem.field for problem in warned if "every value is an id" in problem.message] == ["q", "p"]
    rows[5] = {"q": "was ist ein Hafen?", "p": "D5"}
    warned = push(table(tmp_path / "mixed.jsonl", rows)).check(kind, **about).warnings
    assert [problem.field for problem in warned if "every value is an id" in problem.message] == ["p"]
