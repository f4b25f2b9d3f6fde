"""Small inputs that people of other tools met trouble with: each is pushed, checked and seen as it should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from corpus.conversations.examples import Conversation, Message, Preference
from tests.chat_models import CHATML, write_chat_model
from tests.corpus.test_turns import TOOLS
from tests.pushing import push, seen
from tests.weights import case_path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model whose template knows neither tools nor thoughts."""
    return write_chat_model(tmp_path_factory.mktemp("models") / "chatml", CHATML)


@pytest.mark.parametrize(
    ("name", "rows", "columns", "line", "said"),
    [
        ("excel_de.csv", 120, ["Text", "Klasse"], 'semicolon, quotes ", cp1252, CRLF', "is read as cp1252"),
        ("pandas_index.csv", 120, ["index", "text", "label"], 'comma, quotes ", utf-8, LF', "taken as 'index'"),
        ("csv-as-people-have-them/cr.csv", 40, ["text", "label"], 'semicolon, quotes ", utf-8, CR', None),
        (
            "csv-as-people-have-them/hdrspace.csv",
            40,
            ["text", "label"],
            'comma, quotes ", utf-8, CRLF',
            "Spaces round the names",
        ),
        ("csv-as-people-have-them/pipe.csv", 40, ["text", "label"], 'pipe, quotes ", utf-8, CRLF', None),
        (
            "csv-as-people-have-them/sepline.csv",
            40,
            ["text", "label"],
            'semicolon, quotes ", utf-8, CRLF',
            "sep=; tells the delimiter",
        ),
        (
            "csv-as-people-have-them/unnamed.csv",
            40,
            ["index", "text", "label"],
            'comma, quotes ", utf-8, CRLF',
            "taken as 'index'",
        ),
        ("columns.json", 120, ["text", "label"], "layout columns", "Every key is a column"),
        ("wrapped.json", 120, ["text", "label"], "layout below:data", 'below "data"; not read beside it: version'),
    ],
)
def test_a_table_is_taken_and_what_was_recognised_is_said(
    name: str, rows: int, columns: list[str], line: str, said: str | None
) -> None:
    pushed = push(case_path(name))
    assert (pushed.profile.rows, list(pushed.profile.columns), str(pushed.profile.dialect)) == (rows, columns, line)
    assert said is None if not pushed.profile.notices else said is not None and said in pushed.profile.notices[0]
    text, label = columns[-2:]
    assert len(pushed.profile.columns[label].values) == 2
    report = pushed.check("train-classifier", text=text, label=label)
    assert (report.problems, report.usable) == ((), rows)
    letters = "".join(row[text] for row in pushed.rows)
    assert "ä" in letters or "ö" in letters
    assert not any(broken in letters for broken in ("Ã", "�", '"'))


def test_quotes_that_are_text_swallow_no_row() -> None:
    pushed = push(case_path("literal_quotes.tsv"), columns=("text", "label"), has_header=False)
    assert [(row["text"], row["label"]) for row in pushed.rows] == [
        ('"ganz zitiert"', "A"),
        ('"offen', "B"),
        ("zwei", "C"),
        ('drei"', "D"),
    ]
    assert "Quotes are read as text" in pushed.profile.notices[0]
    unnamed = push(case_path("literal_quotes.tsv"))
    assert (unnamed.profile.rows, "looks like a row" in unnamed.profile.notices[-1]) == (3, True)


def test_a_first_line_that_looks_like_a_row_is_said_and_can_be_one() -> None:
    path = case_path("first_row_is_data.tsv")
    lines = path.read_text(encoding="utf-8").splitlines()
    [notice] = push(path).profile.notices
    assert "looks like a row" in notice and "--columns A,B" in notice
    told = push(path, columns=("text", "label"), has_header=False)
    assert [f"{row['text']}\t{row['label']}" for row in told.rows] == lines


def test_questions_about_paragraphs_are_pairs() -> None:
    pushed = push(case_path("squad.json"))
    asked = [(row["question"], row["context"][:3], row["answer"]) for row in pushed.rows]
    assert asked[0] == ("Wann wurde der Fährhafen gebaut?", "Der", "1912")
    assert [context for _, context, _ in asked] == ["Der", "Der", "Die", "Die"]
    assert len({row["paragraph"] for row in pushed.rows}) == 2
    assert pushed.check("train-embedder").refused == 0
    assert pushed.check("train-reranker", query="question", positive="context").refused == 0


def test_labels_that_differ_in_case_and_spaces_are_named_and_mended() -> None:
    pushed = push(case_path("label_case.csv"))
    report = pushed.check("train-classifier")
    [warning] = [problem for problem in report.warnings if "mean the same" in problem.message]
    for spelling in ("'SCHLECHT' (row 1)", "'schlecht' (row 3)", "'GUT' (row 6)", "'gut' (row 2)"):
        assert spelling in warning.message
    assert "normalize_labels: true" in (warning.remedy or "")
    mended = pushed.check("train-classifier", data={"normalize_labels": True})
    assert set(mended.classes or {}) == {"gut", "schlecht"}


@pytest.mark.parametrize("name", ["mixlabel.jsonl", "mixlabel3.jsonl"])
def test_a_number_is_one_class_however_it_is_written(name: str) -> None:
    pushed = push(case_path(f"mixed-number-labels/{name}"))
    report = pushed.check("train-classifier")
    plain = set(report.classes or {}) == {"0", "1"}
    named = any("mean the same" in problem.message for problem in report.warnings)
    assert plain != named
    mended = pushed.check("train-classifier", data={"normalize_labels": True})
    assert set(mended.classes or {}) == {"0", "1"}


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("multilabel.jsonl", "label", "several labels per row are not supported."),
        ("listtext.jsonl", "text", "it is not a text but a list."),
        ("dicttext.jsonl", "text", "it is not a text but an object."),
    ],
)
def test_a_cell_that_is_no_text_is_refused_with_its_row(name: str, column: str, message: str) -> None:
    report = push(case_path(f"structured-cells/{name}")).check("train-classifier")
    assert (report.refused, report.usable) == (40, 0)
    first = report.refused_rows[0]
    assert (first.row, first.field, first.message) == (1, column, message)


def test_bytes_that_are_utf_8_are_that_text() -> None:
    report = push(case_path("structured-cells/bin.parquet")).check("train-classifier")
    assert (report.problems, report.refused) == ((), 0)
    assert not any("b'" in name for name in report.classes or {})


@pytest.mark.parametrize("name", ["loss_flags.json", "openai_weight.jsonl", "reasoning-dropped/train.jsonl"])
def test_only_turns_that_say_so_are_learnt_and_the_preview_shows_it(name: str, model: Path) -> None:
    pushed = push(case_path(name))
    assert pushed.check("finetune-llm", model).refused == 0
    for text in seen(pushed.chats(), model):
        assert text.count("«") == 1
        learnt = text.split("«")[1].split("»")[0]
        assert learnt.startswith("Antwort ")


def test_transcripts_are_preferences_with_their_common_turns_as_the_prompt(model: Path) -> None:
    pushed = push(case_path("hh.jsonl"))
    for objective in ("dpo", "orpo"):
        assert pushed.check("finetune-llm", model, objective=objective).problems == ()
        [first, *_] = pushed.chats(objective)
        good, poor = (Message("assistant", text) for text in ("Gute Antwort.", "Schlechte."))
        assert first == Preference((Message("user", "Frage 0?"),), (good,), (poor,), row=1)


def test_calls_of_tools_are_learnt_and_results_are_not(tmp_path: Path, model: Path) -> None:
    pushed = push(case_path("tools.jsonl"))
    knows = write_chat_model(tmp_path / "tools", TOOLS)
    assert pushed.check("finetune-llm", knows).problems == ()
    [text, *_] = seen(pushed.chats(), knows)
    learnt = [part.split("»")[0] for part in text.split("«")[1:]]
    assert "wetter" in learnt[0]
    assert "Es sind 12 Grad." in learnt[1]
    assert not any(part.strip() == "12 Grad" for part in learnt)
    [problem] = pushed.check("finetune-llm", model).problems
    assert (problem.row, "writes no tool calls" in problem.message) == (1, True)


@pytest.mark.parametrize("name", ["reasoning.jsonl", "thinking.jsonl"])
def test_thoughts_are_used_or_named(name: str, tmp_path: Path, model: Path) -> None:
    pushed = push(case_path(f"reasoning-dropped/{name}"))
    thinks = write_chat_model(tmp_path / "thinks", TOOLS)
    assert all("«<think>Gedanke " in text for text in seen(pushed.chats(), thinks))
    warned = [problem.message for problem in pushed.check("finetune-llm", model).warnings]
    assert any("30 rows (1, 2, 3, …)" in text and "does not write reasoning" in text for text in warned)


def test_keys_that_are_null_are_absent() -> None:
    pushed = push(case_path("null-sharegpt-keys/mixedkeys.jsonl"))
    found = [example.messages for example in pushed.chats() if isinstance(example, Conversation)]
    assert found == [(Message("user", f"Frage {n}"), Message("assistant", f"Antwort {n}")) for n in range(3)]
    assert pushed.check("finetune-llm").refused == 0


def test_answers_behind_max_length_are_counted_before_the_job(tmp_path: Path, model: Path) -> None:
    path = case_path("check-misses-unlearnable/long-2-rows.jsonl")
    training: dict[str, Any] = {"epochs": 1, "batch_size": 4, "learning_rate": 5e-4, "max_length": 128}
    report = push(path).check("finetune-llm", model, training=training)
    assert report.unlearnable == report.usable == 2
    [problem] = report.problems
    assert "2 rows (1, 2) will be left out" in problem.message
    short = [
        {"messages": [{"role": "user", "content": f"kurz {n}"}, {"role": "assistant", "content": "ja"}]}
        for n in range(30)
    ]
    mixed = tmp_path / "mixed.jsonl"
    lines = [*path.read_text(encoding="utf-8").splitlines(), *map(json.dumps, short)]
    mixed.write_text("\n".join(lines), encoding="utf-8")
    some = push(mixed).check("finetune-llm", model, training=training)
    assert (some.problems, some.unlearnable, some.unlearnable_rows) == ((), 2, (1, 2))


def test_every_case_is_tried_here() -> None:
    """One that is added must not go unnoticed; folders of served models have texts alone."""
    told = Path(__file__).read_text(encoding="utf-8")
    served = Path(__file__).parents[1] / "workers" / "engines" / "test_served_cases.py"
    told += served.read_text(encoding="utf-8")
    root = case_path(".")
    files = [path for path in root.rglob("*") if path.is_file() and path.name not in ("README.md", "spec.yaml")]
    folders = [path for path in root.iterdir() if path.is_dir()]
    unknown = [path.name for path in files if path.stem not in told and path.suffix != ".yaml"]
    assert unknown + [path.name for path in folders if path.name not in told] == []
