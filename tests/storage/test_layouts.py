"""JSON in the layouts that people have: recognised, said, kept with the version, and read in the same way later."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobspecs.dialect import Dialect
from jobspecs.problems import InvalidInput
from jobspecs.profile import DatasetProfile
from storage.tabular import detect_format, profile_table, read_rows, recognising_layouts
from storage.tabular.questions import question_rows

ROWS: list[dict[str, Any]] = [{"text": "eins\nzwei", "n": 1}, {"text": "zwei", "n": None}, {"text": "drei", "n": 2.5}]
TEXTS = [row["text"] for row in ROWS]
NUMBERS = [row["n"] for row in ROWS]
BY_LABEL = {name: {str(number): row[name] for number, row in enumerate(ROWS)} for name in ("text", "n")}
SPLIT: dict[str, Any] = {
    "index": [0, 1, 2],
    "data": [[row["text"], row["n"]] for row in ROWS],
    "columns": ["text", "n"],
}
PARAGRAPHS = [
    {
        "context": "Der Hafen wurde 1912 gebaut.",
        "qas": [
            {
                "id": "a",
                "question": "Wann?",
                "answers": [{"text": "1912", "answer_start": 16}] * 2,
                "is_impossible": False,
            },
            {"id": "b", "question": "Von wem?", "answers": [], "is_impossible": True, "plausible_answers": []},
        ],
    },
    {"context": "Um neun.", "qas": [{"id": "c", "question": "Um?", "answers": [{"text": "neun", "answer_start": 3}]}]},
]
FLAT = [
    {"id": "a", "title": "T", "context": "Der Hafen wurde 1912 gebaut.", "question": "Wann?",
     "answers": {"text": ["1912", "1912"], "answer_start": [16, 16]}},
    {"id": "b", "title": "T", "context": "Der Hafen wurde 1912 gebaut.", "question": "Von wem?",
     "answers": {"text": [], "answer_start": []}},
    {"id": "c", "title": "T", "context": "Um neun.", "question": "Um?",
     "answers": {"text": ["neun"], "answer_start": [3]}},
]  # fmt: skip


def written(path: Path, document: Any) -> Path:
    content = (document if isinstance(document, str) else json.dumps(document, indent=1)).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def pushed(path: Path, told: Dialect | None = None) -> tuple[DatasetProfile, list[dict[str, Any]]]:
    """The profile, and the rows as a worker reads them with what the profile keeps."""
    profile = profile_table(path, detect_format(path.name, told), path.name)
    assert profile.dialect is None or Dialect.model_validate_json(profile.dialect.model_dump_json()) == profile.dialect
    rows = list(read_rows(path, detect_format(path.name, profile.dialect)))
    assert len(rows) == profile.rows
    return profile, rows


@pytest.mark.parametrize(
    ("document", "notice"),
    [
        (BY_LABEL, "its object the values"),
        ({"text": TEXTS, "n": NUMBERS}, "its list the values"),
        (SPLIT, 'orient="split"'),
        ({"schema": {"fields": []}, "data": ROWS}, 'below "data"; not read beside it: schema'),
        (
            {"version": 1, "examples": ROWS, "info": {"by": "us"}},
            'below "examples"; not read beside it: version, info',
        ),
        ("\n".join(json.dumps(row) for row in ROWS), "line holds an object"),
    ],
)
@pytest.mark.parametrize("name", ["t.json", "t.json.gz"])
def test_a_table_is_recognised_said_and_read_the_same_later(
    tmp_path: Path, document: Any, notice: str, name: str
) -> None:
    profile, rows = pushed(written(tmp_path / name, document))
    assert rows == ROWS
    assert notice in profile.notices[0]


def test_an_array_in_a_file_of_lines_is_read_as_one(tmp_path: Path) -> None:
    profile, rows = pushed(written(tmp_path / "t.jsonl", ROWS))
    assert rows == ROWS
    assert "one array" in profile.notices[0]
    assert pushed(written(tmp_path / "t.json", ROWS))[0].dialect is None


def test_labels_that_do_more_than_count_rows_become_a_column(tmp_path: Path) -> None:
    labelled = {name: {"7": values["0"], "3": values["1"]} for name, values in BY_LABEL.items()}
    assert [row["index"] for row in pushed(written(tmp_path / "a.json", labelled))[1]] == ["7", "3"]
    _, rows = pushed(written(tmp_path / "b.json", {**SPLIT, "index": ["x", "y", "z"]}))
    assert rows == [{"index": label, **row} for label, row in zip("xyz", ROWS, strict=True)]
    by_row = {str(number): row for number, row in enumerate(ROWS)}
    assert pushed(written(tmp_path / "c.json", by_row))[1][1] == {"index": "1", **ROWS[1]}


@pytest.mark.parametrize(
    ("document", "message", "layout", "count"),
    [
        ({"train": ROWS, "test": ROWS[:1]}, "below any of train, test", "below:test", 1),
        ({"text": {"a": "x", "b": "y"}, "n": {"a": 1, "b": 2}}, "columns or its rows", "columns", 2),
        ({"a": {"text": "x", "n": 1}, "b": {"text": "y", "n": 2}}, "columns or its rows", "index", 2),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_with_a_remedy_that_works(
    tmp_path: Path, document: Any, message: str, layout: str, count: int
) -> None:
    path = written(tmp_path / "t.json", document)
    with pytest.raises(InvalidInput) as refused:
        pushed(path)
    [problem] = refused.value.problems
    assert message in problem.message
    assert "--layout" in str(problem.remedy)
    profile, rows = pushed(path, Dialect(layout=layout))
    assert len(rows) == count
    assert profile.dialect == Dialect(layout=layout)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"text": {"0": "a", "1": "b"}, "n": {"0": 1, "2": 2}}, "column 'n' has other rows than 'text'"),
        ({**SPLIT, "index": [0, 1]}, "2 labels of rows and another number"),
        ({**SPLIT, "data": [["one"]]}, "one value for each of 2 columns"),
        ('{"data": [{"a": 1}], "data": [{"a": 2}]}', "'data' appears twice"),
        ('{"data": [{"a": 1}]} x', "behind the object"),
        ('{"data": [{"a": 1}', "neither a comma nor a bracket"),
        ({"data": [], "n": 3}, "no key of its object"),
        ({"text": "one row"}, "no key of its object"),
    ],
)
def test_a_broken_document_is_refused(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message.replace("(", r"\(")):
        pushed(written(tmp_path / "t.json", document))


@pytest.mark.parametrize("form", ["squad.json", "articles.json", "flat.jsonl", "flat.json", "flat.parquet"])
def test_questions_about_paragraphs_become_pairs_and_the_unanswerable_are_said_to_be_left_out(
    tmp_path: Path, form: str
) -> None:
    path = tmp_path / form
    articles = [{"title": "T", "paragraphs": PARAGRAPHS}]
    if form == "flat.parquet":
        pq.write_table(pa.Table.from_pylist(FLAT), path)
    else:
        documents = {
            "squad.json": {"version": "v2.0", "data": articles},
            "articles.json": articles,
            "flat.jsonl": "\n".join(json.dumps(row) for row in FLAT),
            "flat.json": {"rows": FLAT},
        }
        written(path, documents[form])
    profile, rows = pushed(path)
    assert [(row["question"], row["context"], row["answer"], row["id"]) for row in rows] == [
        ("Wann?", "Der Hafen wurde 1912 gebaut.", "1912", "a"),
        ("Um?", "Um neun.", "neun", "c"),
    ]
    assert (rows[0]["answers"], rows[0]["title"]) == (["1912"], "T")
    assert rows[0]["paragraph"] != rows[1]["paragraph"]
    assert "left out: 1" in profile.notices[-1]
    assert list(read_rows(path, detect_format(form, profile.dialect), ["context"]))[1] == {"context": "Um neun."}


def test_no_more_questions_are_counted_than_a_table_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Counter[str]()

    def counted(*arguments: Any) -> Iterator[dict[str, Any]]:
        for pair in question_rows(*arguments):
            taken["pairs"] += 1
            yield pair

    monkeypatch.setattr(recognising_layouts, "question_rows", counted)
    path = written(tmp_path / "train.json", {"data": [{"title": "T", "paragraphs": PARAGRAPHS * 500}]})
    with pytest.raises(InvalidInput, match="more than 3 rows"):
        profile_table(path, detect_format(path.name), path.name, max_rows=3)
    assert taken["pairs"] == 4


def test_questions_as_rows_stay_as_they_are_by_choice(tmp_path: Path) -> None:
    path = written(tmp_path / "flat.json", FLAT)
    assert pushed(path, Dialect(layout="array"))[1] == FLAT


def test_a_layout_that_there_is_not_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match="below:KEY"):
        Dialect(layout="diagonal")
