"""Formats of chat data are recognised, and what is wrong with a row is said with its number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.conversations.examples import (
    Conversation,
    Example,
    Judged,
    Message,
    Objective,
    PlainText,
    Preference,
)
from corpus.conversations.formats import FORMATS, ChatSource, recognise
from corpus.conversations.reading import columns_of, converted, read_examples
from jobspecs.problems import InvalidInput, Problem
from storage.tabular import detect_format
from tests.weights import data_path

Rows = list[dict[str, Any]]

ASKED, ANSWERED = Message("user", "2 and 2?"), Message("assistant", "4")
WRONG = Message("assistant", "5")
TURNS = [{"role": "user", "content": "2 and 2?"}, {"role": "assistant", "content": "4"}]
SHAREGPT = [{"from": "human", "value": "2 and 2?"}, {"from": "gpt", "value": "4"}]


def examples_of(rows: Rows, objective: str = "sft", **source: Any) -> list[Example]:
    recognised = recognise(columns_of(rows), rows, ChatSource(**source), cast(Objective, objective))
    return list(converted(rows, recognised, "rows.jsonl"))


def problem_of(row: dict[str, Any], objective: str = "sft", **source: Any) -> Problem:
    with pytest.raises(InvalidInput) as refused:
        examples_of([row], objective, **source)
    [problem] = refused.value.problems
    assert (problem.file, problem.row) == ("rows.jsonl", 1)
    assert problem.remedy
    return problem


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TURNS},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "2 and 2?"}]}, TURNS[1]], "tools": []},
        {"messages": [{**TURNS[0], "name": "alex"}, TURNS[1]]},
        {"messages": [{"role": "system", "content": " "}, *TURNS]},
        {"conversations": SHAREGPT, "system": ""},
        {"conversations": TURNS},
        {"instruction": "2 and 2?", "output": "4"},
        {"instruction": "2 and 2?", "input": None, "output": "4", "system": "", "history": []},
        {"prompt": "2 and 2?", "completion": "4"},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
    ],
)
def test_every_format_of_a_conversation_gives_the_same_turns(row: dict[str, Any]) -> None:
    assert examples_of([row]) == [Conversation((ASKED, ANSWERED), row=1)]


@pytest.mark.parametrize(
    "row",
    [
        {
            "input": {"messages": TURNS[:1], "tools": [], "parallel_tool_calls": True},
            "preferred_output": TURNS[1:],
            "non_preferred_output": [{"role": "assistant", "content": "5"}],
        },
        {"prompt": "2 and 2?", "chosen": "4", "rejected": "5"},
        {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": [{"role": "assistant", "content": "5"}]},
        {"chosen": TURNS, "rejected": [TURNS[0], {"role": "assistant", "content": "5"}]},
        {"prompt": "2 and 2?", "chosen": TURNS, "rejected": [TURNS[0], {"role": "assistant", "content": "5"}]},
        {"conversations": SHAREGPT[:1], "chosen": SHAREGPT[1], "rejected": {"from": "gpt", "value": "5"}},
        {"messages": TURNS[:1], "chosen": TURNS[1], "rejected": "5"},
        {"instruction": "2 and 2?", "input": "", "output": "4", "chosen": "4", "rejected": "5"},
    ],
)
@pytest.mark.parametrize("objective", ["dpo", "orpo"])
def test_every_format_of_a_preference_gives_the_same_pair(row: dict[str, Any], objective: str) -> None:
    assert examples_of([row], objective) == [Preference((ASKED,), (ANSWERED,), (WRONG,), row=1)]


@pytest.mark.parametrize(("label", "desirable"), [(True, True), (0, False), ("True", True), ("false", False)])
@pytest.mark.parametrize(
    "row",
    [
        {"messages": TURNS},
        {"conversations": SHAREGPT},
        {"prompt": "2 and 2?", "completion": "4"},
        {"instruction": "2 and 2?", "output": "4"},
    ],
)
def test_every_format_of_a_judged_answer_reads_its_label(row: dict[str, Any], label: object, desirable: bool) -> None:
    assert examples_of([{**row, "label": label}], "kto") == [Judged((ASKED, ANSWERED), desirable, row=1)]


def test_text_is_for_pretraining_and_for_supervised_training() -> None:
    for objective in ("pretrain", "sft"):
        assert examples_of([{"text": "Once."}], objective) == [PlainText("Once.", row=1)]
    assert examples_of([{"title": "T", "body": "B"}], "pretrain", text="{title}\n\n{body}") == [PlainText("T\n\nB", 1)]


def test_alpacas_input_system_and_history_become_turns() -> None:
    row = {"instruction": "Add.", "input": "1, 2", "output": "3", "system": "Count.", "history": [["Hi", "Hello"]]}
    [example] = examples_of([row])
    assert isinstance(example, Conversation)
    assert [(turn.role, turn.content) for turn in example.messages] == [
        ("system", "Count."),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Add.\n\n1, 2"),
        ("assistant", "3"),
    ]


def test_a_turn_with_weight_0_is_context_only() -> None:
    [example] = examples_of([{"messages": [TURNS[0], {**TURNS[1], "weight": 0}, *TURNS]}])
    assert isinstance(example, Conversation)
    assert [turn.supervised for turn in example.messages] == [True, False, True, True]


def turns(*roles: str, content: str = "x") -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role in roles]


@pytest.mark.parametrize(
    ("messages", "field", "words"),
    [
        (turns("user", "user", "assistant"), "messages", "turns 1 and 2 are both the user's"),
        (turns("user", "assistant", "assistant"), "messages", "turns 2 and 3 are both the assistant's"),
        (turns("assistant", "user", "assistant"), "messages", "turn 1 is the assistant's, at the beginning"),
        (turns("user", "system", "assistant"), "messages", "may only be the first"),
        (turns("user", "tool", "assistant"), "messages", "turn 2 is the tool's, behind the user's"),
        (turns("user"), "messages", "no turn is the assistant's"),
        (turns("user", "assistant", "user"), "messages", "the last turn is the user's"),
        (turns("user", "assistant", content=" \n"), "messages", "turn 1 (user) is empty"),
        ([], "messages", "there are no turns"),
        ([*turns("user"), {"role": "assistant", "content": ""}], "messages", "turn 2 (assistant) is empty"),
        ([*turns("user"), {"role": "assistant", "content": None}], "messages[1].content", "is missing"),
        ([*turns("user"), {"role": "assistant", "content": 4}], "messages[1].content", "is a number"),
        ([*turns("user"), {"role": "bard", "content": "x"}], "messages[1].role", "'bard' is not a role"),
        ([*turns("user"), {"content": "x"}], "messages[1].role", "has no role"),
        ([*turns("user"), "x"], "messages[1]", "not an object but a text"),
        ([*turns("user"), {**TURNS[1], "weight": 0}], "messages", "no assistant turn is to be learnt"),
        (
            [*turns("user"), {**TURNS[1], "weight": 2}],
            "messages[1].weight",
            "2 does not say whether the turn is learnt",
        ),
        ([*turns("user"), {**TURNS[1], "tool_calls": [{}]}], "messages[1].tool_calls[0]", "not a call"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, TURNS[1]],
            "messages[0].content[0]",
            "not a text",
        ),
    ],
)
def test_a_conversation_that_cannot_be_is_refused_with_the_turn(messages: Any, field: str, words: str) -> None:
    problem = problem_of({"messages": messages})
    assert problem.field == field
    assert words in problem.message


@pytest.mark.parametrize(
    ("row", "objective", "field", "words"),
    [
        ({"messages": TURNS, "tools": [{"type": "function"}]}, "sft", "tools[0]", "not a function with a name"),
        ({"instruction": 5, "output": "x"}, "sft", "instruction", "not a text but a number"),
        ({"instruction": "x", "output": None}, "sft", "output", "is missing"),
        ({"instruction": "x", "output": "x", "history": [["a"]]}, "sft", "history[0]", "question with its answer"),
        ({"prompt": "x", "chosen": "same", "rejected": "same"}, "dpo", "rejected", "equals chosen"),
        ({"prompt": TURNS, "chosen": "x", "rejected": "y"}, "dpo", "prompt", "ends with the assistant's"),
        ({"prompt": "x", "chosen": "", "rejected": "y"}, "dpo", "chosen", "turn 2 (assistant) is empty"),
        ({"messages": TURNS, "label": "perhaps"}, "kto", "label", "not true or false but a text"),
        ({"messages": TURNS, "label": None}, "kto", "label", "is missing"),
        ({"text": " "}, "pretrain", "text", "empty"),
        ({"text": ["x"]}, "pretrain", "text", "not a text but a list"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_with_its_field(
    row: dict[str, Any], objective: str, field: str, words: str
) -> None:
    problem = problem_of(row, objective)
    assert problem.field == field
    assert words in problem.message


def test_bad_rows_are_told_and_passed_over_where_that_is_wanted(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": " "}, {"prompt": "c", "completion": "d"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told: list[Problem] = []
    examples = list(read_examples(path, detect_format(path.name), on_problem=told.append))
    assert [example.row for example in examples] == [1, 3]
    assert [(problem.row, problem.field) for problem in told] == [(2, "completion")]
    with pytest.raises(InvalidInput, match="row 2"):
        list(read_examples(path, detect_format(path.name)))


def test_a_name_in_a_template_is_only_ever_a_column() -> None:
    row = {"title": "{abstract} {0} {title.__class__}", "abstract": "A"}
    [example] = examples_of([row], prompt="{{t}}: {title}", completion="{abstract}", system="Be {{brief}}.")
    assert isinstance(example, Conversation)
    assert [turn.content for turn in example.messages] == ["Be {brief}.", f"{{t}}: {row['title']}", "A"]
    for template in ("{title.__class__}", "{title[0]}", "{0}", "{title!r}", "{ title }"):
        with pytest.raises(InvalidInput, match="no column"):
            examples_of([row], prompt=template, completion="{abstract}")
    for template in ("{", "}", "{}", "{title", "a } b"):
        with pytest.raises(InvalidInput, match="holds no column"):
            examples_of([row], prompt=template, completion="{abstract}")


@given(st.text(), st.text(), st.text())
def test_a_template_puts_any_value_in_as_it_is(before: str, value: str, after: str) -> None:
    def literal(text: str) -> str:
        return text.replace("{", "{{").replace("}", "}}")

    row = {"column": value, "done": "x"}
    prompt = f"{literal(before)}.{{column}}.{literal(after)}"
    [example] = examples_of([row], prompt=prompt, completion="{done}")
    assert isinstance(example, Conversation)
    assert example.messages[0].content == f"{before}.{value}.{after}"


contents = st.text(min_size=1).filter(str.strip)


@given(st.lists(st.tuples(contents, contents), min_size=1, max_size=4), st.none() | contents)
def test_any_conversation_survives_openais_and_sharegpts_way_to_write_it(
    pairs: list[tuple[str, str]], system: str | None
) -> None:
    messages = [Message("system", system)] if system else []
    for asked, answered in pairs:
        messages += [Message("user", asked), Message("assistant", answered)]
    expected = [Conversation(tuple(messages), row=1)]
    openai = [{"role": turn.role, "content": turn.content} for turn in messages]
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    sharegpt = [{"from": names[turn.role], "value": turn.content} for turn in messages]
    assert examples_of([{"messages": openai}]) == expected
    assert examples_of([{"conversations": sharegpt}]) == expected


def test_the_objective_chooses_what_the_same_columns_mean() -> None:
    row = {"instruction": "2 and 2?", "input": "", "output": "4", "chosen": "4", "rejected": "5", "id": 7}
    for_sft = recognise(list(row), [row], ChatSource(), "sft")
    for_dpo = recognise(list(row), [row], ChatSource(), "dpo")
    assert (for_sft.shape, for_sft.unused) == ("conversation", ("chosen", "rejected", "id"))
    assert (for_dpo.shape, for_dpo.unused) == ("preference", ("output", "id"))


@pytest.mark.parametrize(
    ("row", "objective", "source", "words"),
    [
        ({"headline": "x", "n": 1}, "sft", {}, ("headline (a text), n (a number)", "alpaca: instruction, output")),
        ({"instruction": "x", "output": "y"}, "dpo", {}, ("They fit objective sft", "chosen, rejected")),
        ({"messages": "[]"}, "sft", {}, ("messages (a text)",)),
        ({"messages": TURNS}, "sft", {"format": "alpaca"}, ("in the format alpaca", "alpaca: instruction, output")),
        ({"messages": TURNS}, "sft", {"format": "chatml"}, ("'chatml' is not a format", "sharegpt")),
        ({"a": "x"}, "sft", {"prompt": "{a}"}, ("prompt, completion",)),
        ({"a": "x"}, "sft", {"prompt": "{b}", "completion": "{a}"}, ("no column 'b'; the columns are a",)),
    ],
)
def test_data_that_is_not_recognised_is_refused_with_what_was_found_and_what_is_known(
    row: dict[str, Any], objective: Objective, source: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        recognise(list(row), [row], ChatSource(**source), objective)
    for word in words:
        assert word in str(refused.value)


def test_every_format_can_be_declared() -> None:
    for name in {known.name for known in FORMATS if known.shape == "conversation"}:
        known = next(known for known in FORMATS if known.name == name)
        assert recognise(known.required, [], ChatSource(format=name), "sft").format == name


@pytest.mark.parametrize(
    ("file", "objective", "source", "examples", "bad"),
    [
        ("llamafactory/alpaca_en_demo.json", "sft", {}, 999, 0),
        ("llamafactory/dpo_en_demo.json", "dpo", {}, 300, 0),
        ("llamafactory/kto_en_demo.json", "kto", {}, 300, 0),
        ("llamafactory/c4_demo.jsonl", "pretrain", {}, 300, 0),
        ("rasbt/instruction-data.json", "sft", {}, 1100, 0),
        # Six answers are preferred to themselves.
        ("rasbt/instruction-data-with-preference.json", "dpo", {}, 1094, 6),
        (
            "arxiv_llm/arxiv-llm-abstracts-2025-2026.jsonl.xz",
            "sft",
            {"prompt": "Write an abstract with the title {title}", "completion": "{abstract}"},
            13_885,
            0,
        ),
    ],
)
def test_data_sets_that_people_have_are_read_whole(
    file: str, objective: Objective, source: dict[str, Any], examples: int, bad: int
) -> None:
    path = data_path(file)
    told: list[Problem] = []
    read = read_examples(
        path, detect_format(path.name), ChatSource(**source), objective=objective, on_problem=told.append
    )
    assert (sum(1 for _ in read), len(told)) == (examples, bad)
