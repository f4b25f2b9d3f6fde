"""What people see of a data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.client.conftest import Outcome
from tests.client.documents import dataset
from tests.client.stub import StubPlatform

Run = Callable[..., Outcome]
URL = "/v1/datasets/chats/versions/2/preview"


def sequence(**fields: Any) -> dict[str, Any]:
    pieces = [
        {"text": "<user>\nAdd.\n<assistant>\n", "supervised": False},
        {"text": "3<end>", "supervised": True},
        {"text": "\n", "supervised": False},
    ]
    return {"name": "conversation", "tokens": 1200, "supervised_tokens": 2, "pieces": pieces, **fields}


def chats(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Add.\nNow."}, {"role": "assistant", "content": "3"}]
    return {
        "format": "alpaca",
        "objective": "sft",
        "used": ["instruction", "output"],
        "unused": ["id"],
        "template": None,
        "examples": [{"row": 1, "kind": "conversation", "messages": messages, "sequences": []}],
        "rows_checked": 4,
        "problems": [{"message": "it is empty.", "file": "c.json", "row": 3, "remedy": "Write a text."}],
        **fields,
    }


def test_conversations_are_shown_with_their_format_and_problems(platform: StubPlatform, run: Run) -> None:
    platform.answers[f"GET {URL}"] = (200, chats())
    shown = run("datasets", "preview", "chats@2", "--as", "chat", "--system", "Be brief.", "--objective", "sft")
    assert shown.code == 0
    assert shown.out.splitlines() == [
        "format    alpaca, for sft",
        "columns   instruction, output  (not read: id)",
        "",
        "row 1: conversation",
        "user: Add.",
        "Now.",
        "assistant: 3",
    ]
    assert shown.err.splitlines() == [
        "1 of the first 4 rows can't be used:",
        "file c.json, row 3: it is empty. Write a text.",
    ]
    asked = parse_qs(platform.requests[-1].query)
    assert asked == {"as": ["chat"], "rows": ["3"], "system": ["Be brief."], "objective": ["sft"]}


def test_what_is_trained_stands_between_marks_where_there_are_no_colors(platform: StubPlatform, run: Run) -> None:
    example = {"row": 7, "kind": "judged", "desirable": False, "sequences": [sequence()]}
    platform.answers[f"GET {URL}"] = (200, chats(template="default", examples=[example], problems=[]))
    shown = run("datasets", "preview", "chats@2", "--as", "chat", "--model", "talker")
    assert shown.out.splitlines()[2:] == [
        "template  the default: the model brings none",
        "",
        "row 7: judged, unwanted",
        "--- conversation: 1,200 tokens, 2 of them trained",
        "<user>",
        "Add.",
        "<assistant>",
        "«3<end>»",
        "",
    ]


def test_on_a_terminal_what_is_trained_is_colored_and_nothing_can_steer_it(
    platform: StubPlatform, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    pieces = [{"text": "[red]\x1b]0;title\x07", "supervised": False}, {"text": "3<end>", "supervised": True}]
    example = {"row": 1, "kind": "conversation", "sequences": [sequence(pieces=pieces)]}
    platform.answers[f"GET {URL}"] = (200, chats(examples=[example], problems=[]))
    shown = run("datasets", "preview", "chats@2", "--as", "chat", "--model", "talker")
    last = shown.out.splitlines()[-1]
    assert "\x1b[1;32m3<end>" in last
    assert "[red]" in last
    assert "\x1b]" not in last


def test_a_preview_is_json_for_programs_and_a_table_for_people(platform: StubPlatform, run: Run) -> None:
    rows = [{"text": "a  b\nc", "tags": ["x"]}, {"text": "long " * 20, "tags": None}]
    platform.answers[f"GET {URL}"] = (200, {"columns": ["text", "tags"], "rows": rows})
    assert json.loads(run("datasets", "preview", "chats@2", "--json").out)["rows"] == rows
    lines = run("datasets", "preview", "chats@2").out.splitlines()
    assert lines[0].split() == ["text", "tags"]
    assert lines[1].startswith("a b c") and lines[1].endswith('["x"]')
    assert "…" in lines[2]


def test_options_for_chats_want_a_chat(platform: StubPlatform, run: Run) -> None:
    refused = run("datasets", "preview", "chats@2", "--model", "talker")
    assert (refused.code, "--as chat" in refused.err) == (2, True)
    assert platform.requests == []


def test_names_of_columns_go_with_the_file(platform: StubPlatform, run: Run, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b,1\n")
    run("datasets", "push", str(tmp_path / "pairs.csv"), "--columns", "sentence1, sentence2,score")
    [request] = platform.requests
    assert parse_qs(request.query)["columns"] == ["sentence1", "sentence2", "score"]


def test_how_a_table_is_written_goes_with_it_and_what_was_recognised_is_said(
    platform: StubPlatform, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text("a;b\n")
    version = {"recognised": 'semicolon, quotes ", cp1252, CRLF', "notices": ["The file is not UTF-8."]}
    platform.answers["PUT /v1/datasets/pairs"] = (201, dataset(**version))
    told = ["--delimiter", "semicolon", "--quote", "none", "--encoding", "cp1252"]
    result = run("datasets", "push", str(tmp_path / "pairs.csv"), *told)
    query = parse_qs(platform.requests[-1].query)
    assert (query["delimiter"], query["quote"], query["encoding"]) == (["semicolon"], ["none"], ["cp1252"])
    assert 'recognised: semicolon, quotes ", cp1252, CRLF' in result.out
    assert "notice: The file is not UTF-8." in result.out


def test_a_problem_that_repeats_is_said_once_with_rows(platform: StubPlatform, run: Run) -> None:
    empty = [{"message": f"turn {row} is empty.", "field": "messages", "row": row} for row in range(1, 6)]
    platform.answers[f"GET {URL}"] = (200, chats(problems=[*empty, {"message": "it is missing.", "row": 9}]))
    shown = run("datasets", "preview", "chats@2", "--as", "chat")
    assert shown.err.splitlines() == [
        "6 of the first 4 rows can't be used:",
        "field messages, row 1: turn 1 is empty. (as 4 more: row 2, 3, …)",
        "row 9: it is missing.",
    ]


def test_turns_that_are_not_learnt_and_fields_that_are_not_read_are_marked(platform: StubPlatform, run: Run) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "learnt": False}]
    example = {"row": 1, "kind": "conversation", "messages": messages, "sequences": []}
    unread = [{"field": "mood", "rows": 3, "first_row": 1}]
    platform.answers[f"GET {URL}"] = (200, chats(examples=[example], unread=unread, problems=[]))
    shown = run("datasets", "preview", "chats@2", "--as", "chat", "--merge-turns")
    assert shown.out.splitlines()[-2:] == ["user: a", "assistant (not learnt): b"]
    assert shown.err.splitlines() == ["not read: mood of turns, in 3 of the first rows (row 1)"]
