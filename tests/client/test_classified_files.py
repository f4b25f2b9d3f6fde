from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.client.conftest import Outcome
from tests.client.stub import Answer, Request, StubPlatform

Run = Callable[..., Outcome]


def classes(request: Request) -> Answer:
    """Each text's label is the text in capitals."""
    body = json.loads(request.body)
    assert all(body["input"]), "a server refuses empty texts"
    found = [
        [{"label": f"{text.upper()}{place or ''}", "score": 0.9 - place / 10} for place in range(body.get("top_k", 1))]
        for text in body["input"]
    ]
    return 200, {"model": "m", "version": 1, "results": found}


@pytest.fixture
def table(tmp_path: Path, platform: StubPlatform) -> Path:
    """300 rows, of which rows 2 and 290 have no text; one holds a comma, quotes and a line break."""
    platform.answers["POST /v1/classify"] = classes
    path = tmp_path / "news.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "headline"])
        writer.writerow([1, 'a, "b"\nc'])
        writer.writerows([n, "" if n in (2, 290) else f"text {n}"] for n in range(2, 301))
    return path


def test_a_csv_column_is_classified_in_portions_and_every_row_stays_in_its_place(
    table: Path, platform: StubPlatform, run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "labelled.csv"
    outcome = run("classify", "m", "--file", str(table), "--csv", "--column", "headline", "--out", str(out))
    assert (outcome.code, outcome.out) == (0, ""), outcome.err
    with out.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == [str(n) for n in range(1, 301)]
    assert rows[0] == {
        "id": "1",
        "headline": 'a, "b"\nc',
        "predicted_label": 'A, "B"\nC',
        "predicted_score": "0.9000",
    }
    assert [row["predicted_label"] for row in rows[1:3]] == ["", "TEXT 3"]
    assert outcome.err.splitlines() == [
        "2 of 300 rows have no text and get no label: 2, 290",
        f"300 rows are in {out}",
    ]
    assert [len(json.loads(request.body)["input"]) for request in platform.requests] == [255, 43]
    assert not list(tmp_path.glob("*.part"))


def test_a_lone_carriage_return_in_a_cell_ends_no_row(platform: StubPlatform, run: Run, tmp_path: Path) -> None:
    platform.answers["POST /v1/classify"] = classes
    path, out = tmp_path / "old.csv", tmp_path / "out.csv"
    path.write_bytes(b'id,text\n1,"a\rb"\n2,c\n')
    assert run("classify", "m", "--file", str(path), "--csv", "--out", str(out)).code == 0
    with out.open(encoding="utf-8", newline="") as stream:
        assert [row["text"] for row in csv.DictReader(stream)] == ["a\rb", "c"]


def test_with_json_there_is_a_line_per_row(table: Path, run: Run) -> None:
    outcome = run("classify", "m", "--file", str(table), "--csv", "--column", "headline", "--top-k", "2", "--json")
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    assert [line["row"] for line in lines] == list(range(1, 301))
    assert lines[2]["labels"] == [{"label": "TEXT 3", "score": 0.9}, {"label": "TEXT 31", "score": 0.8}]
    assert lines[1] == {"row": 2, "text": "", "labels": []}


def test_lines_of_a_file_become_csv(platform: StubPlatform, run: Run, tmp_path: Path) -> None:
    platform.answers["POST /v1/classify"] = classes
    path = tmp_path / "lines.txt"
    path.write_text("ü\n\nb, c\n", encoding="utf-8")
    outcome = run("classify", "m", "--file", str(path), "--top-k", "2")
    assert outcome.out.splitlines() == [
        "text,predicted_label,predicted_score,predicted_label_2,predicted_score_2",
        "ü,Ü,0.9000,Ü1,0.8000",
        ",,,,",
        '"b, c","B, C",0.9000,"B, C1",0.8000',
    ]


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        ("id,headline\n1,a\n", [], "no column 'text'. Choose one with --column: id, headline."),
        (
            "id,headline\n1,a\n2,b,c\n",
            ["--column", "headline"],
            "row 2 has 3 cells, and the header has 2 (read as comma).",
        ),
        ('text\n"a\n', [], "can't be read as CSV"),
        ("", [], "is empty"),
        ("text,predicted_label\na,b\n", [], "has a column 'predicted_label' already"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_before_anything_is_asked(
    content: str, arguments: list[str], words: str, platform: StubPlatform, run: Run, tmp_path: Path
) -> None:
    path, out = tmp_path / "news.csv", tmp_path / "out.csv"
    path.write_text(content)
    outcome = run("classify", "m", "--file", str(path), "--csv", *arguments, "--out", str(out))
    assert (outcome.code, outcome.out) == (1, "")
    assert words in outcome.err
    assert outcome.err.count("\n") == 1
    assert not platform.requests
    assert not out.exists()


def test_a_delimiter_is_recognised_and_kept(platform: StubPlatform, run: Run, tmp_path: Path) -> None:
    platform.answers["POST /v1/classify"] = classes
    path = tmp_path / "news.csv"
    path.write_text("text;id\na, b;1\n")
    assert run("classify", "m", "--file", str(path), "--csv").out.splitlines() == [
        "text;id;predicted_label;predicted_score",
        "a, b;1;A, B;0.9000",
    ]


def test_a_file_is_read_as_it_is_told_and_refused_where_its_delimiter_is_unclear(
    platform: StubPlatform, run: Run, tmp_path: Path
) -> None:
    platform.answers["POST /v1/classify"] = classes
    path = tmp_path / "news.csv"
    path.write_bytes('text;note, id\n"größe;1\n'.encode("cp1252"))
    asked = ["classify", "m", "--file", str(path), "--csv", "--encoding", "latin1"]
    unclear = run(*asked)
    assert (unclear.code, "comma or semicolon. Say which: --delimiter" in unclear.err) == (1, True)
    told = run(*asked, "--delimiter", "semicolon", "--quote", "none")
    assert told.out.splitlines()[1] == '"""größe";1;"""GRÖSSE";0.9000'
    assert "--encoding cp1252" in run("classify", "m", "--file", str(path)).err
    wrong = run(*asked, "--delimiter", "colon")
    assert (wrong.code, "--delimiter: 'colon': is not one character" in wrong.err) == (2, True)


def test_nothing_half_done_is_left_when_the_model_changes_meanwhile(
    table: Path, platform: StubPlatform, run: Run, tmp_path: Path
) -> None:
    def changing(request: Request) -> Answer:
        status, body = classes(request)
        return status, {**body, "version": len(platform.requests)}

    platform.answers["POST /v1/classify"] = changing
    out = tmp_path / "labelled.csv"
    outcome = run("classify", "m", "--file", str(table), "--csv", "--column", "headline", "--out", str(out))
    assert outcome.code == 1
    assert "got a new version" in outcome.err
    assert list(tmp_path.iterdir()) == [table]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a", "--csv"], "--csv: needs --file FILE"),
        (["a", "--out", "b"], "--out: needs --file FILE"),
        (["--file", "a", "--column", "b"], "--column: needs --csv"),
        (["--file", "a", "--quote", "none"], "--quote: needs --csv"),
    ],
)
def test_options_of_files_are_refused_without_one(arguments: list[str], words: str, run: Run) -> None:
    outcome = run("classify", "m", *arguments)
    assert outcome.code == 2
    assert words in outcome.err
