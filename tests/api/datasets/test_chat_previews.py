"""Data sets seen as chats, through the API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Api
from tests.chat_models import CHATML, chat_files

ALPACA = [
    {"id": 1, "instruction": "Add.", "input": "1 and 2", "output": "3"},
    {"id": 2, "instruction": "Say hello.", "input": "", "output": "Hello"},
    {"id": 3, "instruction": "Say nothing.", "input": "", "output": " "},
    {"id": 4, "instruction": "Count.", "input": None, "output": "one two"},
]


def push(api: Api, rows: Any) -> None:
    api.push("chats", json.dumps(rows), "chats.json")


def chats(api: Api, expected: int = 200, **asked: Any) -> Any:
    answer = api.client.get("/v1/datasets/chats/versions/latest/preview", params={"as": "chat", **asked})
    assert answer.status_code == expected, answer.text
    return answer.json()


def test_a_data_set_is_previewed_as_conversations_with_the_problems_of_its_first_rows(api: Api) -> None:
    push(api, ALPACA)
    seen = chats(api)
    assert (seen["format"], seen["objective"], seen["unused"], seen["rows_checked"]) == ("alpaca", "sft", ["id"], 4)
    assert [example["row"] for example in seen["examples"]] == [1, 2, 4]
    assert seen["examples"][0]["messages"] == [
        {"role": "user", "content": "Add.\n\n1 and 2", "reasoning": None, "learnt": None},
        {"role": "assistant", "content": "3", "reasoning": None, "learnt": True},
    ]
    [problem] = seen["problems"]
    assert (problem["row"], problem["file"]) == (3, "chats.json")
    assert "empty" in problem["message"]
    assert problem["remedy"]


def test_preferences_are_recognised_without_being_told_and_another_objective_is_refused(api: Api) -> None:
    push(api, [{side: f"\n\nHuman: a\n\nAssistant: {side}" for side in ("chosen", "rejected")}])
    seen = chats(api)
    assert (seen["objective"], seen["examples"][0]["chosen"][0]["content"]) == ("dpo", "chosen")
    assert "They fit objective dpo or orpo" in chats(api, 422, objective="sft")["error"]["message"]


def test_a_registered_model_renders_the_examples_with_what_will_be_trained(api: Api, tmp_path: Path) -> None:
    push(api, ALPACA)
    api.import_model("talker", chat_files(tmp_path, CHATML))
    seen = chats(api, model="talker", rows=1)
    [example] = seen["examples"]
    [sequence] = example["sequences"]
    assert seen["template"] == "model"
    assert [(piece["text"], piece["supervised"]) for piece in sequence["pieces"]] == [
        ("<|im_start|>user\nAdd.\n\n1 and 2<|im_end|>\n<|im_start|>assistant\n", False),
        ("3<|im_end|>", True),
        ("\n", False),
    ]
    assert 0 < sequence["supervised_tokens"] < sequence["tokens"]


def test_columns_become_prompt_and_completion(api: Api) -> None:
    push(api, [{"title": "T", "abstract": "A {title} in braces"}])
    seen = chats(api, prompt="Write about {title}", completion="{abstract}", system="Be brief.")
    assert [turn["content"] for turn in seen["examples"][0]["messages"]] == [
        "Be brief.",
        "Write about T",
        "A {title} in braces",
    ]
    wrong = chats(api, 422, prompt="Write about {titel}", completion="{abstract}")
    assert "titel" in wrong["error"]["problems"][0]["message"]


def test_a_template_can_not_make_much_of_little(api: Api) -> None:
    push(api, [{"t": "x" * 100_000}] * 20)
    pretrain: dict[str, Any] = {"objective": "pretrain", "rows": 1}
    [too_many] = chats(api, 422, text="{t}" * 101, **pretrain)["error"]["problems"]
    assert "101 places" in too_many["message"]
    [too_long] = chats(api, 422, text="x" * 20_001, **pretrain)["error"]["problems"]
    assert "20,001 characters" in too_long["message"]
    filled = chats(api, text="{t}" * 41, **pretrain)
    assert filled["examples"] == []
    assert "4,100,000 characters" in filled["problems"][0]["message"]
    [example] = chats(api, text="{t}" * 30, **pretrain)["examples"]
    assert len(example["text"]) == 3_000_000
    [too_much] = chats(api, 422, text="{t}" * 30, objective="pretrain", rows=2)["error"]["problems"]
    assert (too_much["field"], "6,000,000 characters" in too_much["message"]) == ("rows", True)


def test_data_of_no_known_format_is_refused_with_what_was_found_and_what_is_known(api: Api) -> None:
    api.push("chats")
    [problem] = chats(api, 422)["error"]["problems"]
    assert "headline (a text), quality (a text)" in problem["message"]
    assert "alpaca: instruction, output" in problem["remedy"]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "too much time"),
        ("{{ 'a' * 10 ** 10 }}", "repeats something"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_a_hostile_template_is_stopped_and_the_api_goes_on(api: Api, tmp_path: Path, template: str, words: str) -> None:
    push(api, ALPACA[:1])
    api.import_model("hostile", chat_files(tmp_path, template))
    answer = api.client.get("/v1/datasets/chats/versions/latest/preview", params={"as": "chat", "model": "hostile"})
    assert words in answer.text
    assert api.client.get("/v1/datasets").status_code == 200


def test_a_model_without_a_tokenizer_or_of_somebody_else_renders_nothing(api: Api) -> None:
    push(api, ALPACA)
    api.import_model("encoder")
    [problem] = chats(api, 422, model="encoder")["error"]["problems"]
    assert "tokenizer.json" in problem["message"]
    assert chats(api, 404, model="nobody")
    assert chats(api, 404, model="somebody/encoder")


def test_a_csv_without_a_header_is_pushed_with_names_that_later_readers_use(api: Api) -> None:
    content = "A plane takes off.,A plane is taking off.,5.0\na,b,0.5\n"
    names = ["sentence1", "sentence2", "score"]
    url = "/v1/datasets/pairs"
    made = api.client.put(url, params={"file_name": "p.csv", "columns": names}, content=content.encode())
    assert (made.status_code, made.json()["rows"], made.json()["columns"]) == (201, 2, names)
    assert made.json()["profile"]["columns"]["score"]["kind"] == "number"
    preview = api.client.get(f"{url}/versions/1/preview").json()
    assert preview["rows"][0] == {
        "sentence1": "A plane takes off.",
        "sentence2": "A plane is taking off.",
        "score": "5.0",
    }
    other = api.client.put(url, params={"file_name": "p.csv", "columns": ["a", "b", "c"]}, content=content.encode())
    assert (other.status_code, other.json()["version"]) == (201, 2)
    again = api.client.put(url, params={"file_name": "p.csv", "columns": names}, content=content.encode())
    assert (again.status_code, again.json()["version"]) == (200, 1)
    for wrong in (["a", "b"], ["a", "b", "b"], ["A plane takes off.", "A plane is taking off.", "5.0"]):
        refused = api.client.put(url, params={"file_name": "p.csv", "columns": wrong}, content=content.encode())
        assert refused.status_code == 422
