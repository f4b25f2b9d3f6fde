"""What turns say beside their text: whether they are learnt, the tools they call, thoughts, and what nobody reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from corpus.checks.rows import CheckedFile
from corpus.conversations.chat_template import RenderingError
from corpus.conversations.examples import Conversation, Message, Preference, ToolCall
from corpus.conversations.rendering import Renderer
from corpus.conversations.template_process import ConfinedTemplate
from corpus.conversations.turns import TurnRules
from jobspecs.data_report import DataReport
from jobspecs.kinds.finetune_llm import FinetuneLlm
from storage.tabular import TableFormat, detect_format, read_rows
from tests.chat_models import CHATML, write_chat_model
from tests.corpus.test_recognising import examples_of, problem_of
from tests.corpus.test_rendering import trained
from tests.weights import case_path

USER: dict[str, Any] = {"role": "user", "content": "a"}
GOOD: dict[str, Any] = {"role": "assistant", "content": "good"}
BAD: dict[str, Any] = {"role": "assistant", "content": "bad"}
#: As Qwen's: calls as JSON within tags, results in the user's turn, thoughts before answers, an empty one in the last.
TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' }}{% for tool in tools %}{{ tool|tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + ('user' if message.role == 'tool' else message.role) + '\n' }}"
    "{% if message.role == 'assistant' and (loop.last or message.reasoning_content) %}"
    "{{ '<think>' + (message.reasoning_content or '') + '</think>' }}{% endif %}"
    "{{ message.content }}"
    "{% for call in message.tool_calls or [] %}"
    '{{ \'<tool_call>{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{ call.function.arguments|tojson }}{{ '}</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: As DeepSeek's: it puts the arguments behind the name as a text.
TEXT_ARGUMENTS = TOOLS.replace("call.function.arguments|tojson", "'' + call.function.arguments")
CALL: dict[str, Any] = {"id": "c1", "type": "function", "function": {"name": "wetter", "arguments": '{"ort": "X"}'}}
CALLING: list[dict[str, Any]] = [
    USER,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "12 Grad"},
    {"role": "assistant", "content": "Es sind 12 Grad."},
]


def case(name: str) -> list[dict[str, Any]]:
    text = case_path(name).read_text(encoding="utf-8")
    found: list[dict[str, Any]] = (
        json.loads(text) if name.endswith(".json") else list(map(json.loads, text.splitlines()))
    )
    return found


def learnt(*turns: dict[str, Any], key: str = "messages") -> list[bool]:
    [example] = examples_of([{key: list(turns)}])
    assert isinstance(example, Conversation)
    return [turn.supervised for turn in example.messages if turn.role == "assistant"]


def check(folder: Path, rows: list[dict[str, Any]], template: str | None, **spec: Any) -> DataReport:
    document = {"kind": "finetune-llm", "name": "n", "model": "m", "dataset": "d", **spec}
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    reader = Reader.load(write_chat_model(folder / "model", template)) if template else Reader()
    report = check_data(
        FinetuneLlm.model_validate(document), CheckedFile(path, detect_format(path.name), path.name), reader
    )
    assert report is not None
    return report


@pytest.mark.parametrize("name", ["loss_flags.json", "openai_weight.jsonl", "reasoning-dropped/train.jsonl"])
def test_only_the_turns_that_say_so_are_learnt(name: str) -> None:
    for example in examples_of(case(name)):
        assert isinstance(example, Conversation)
        said = [turn.supervised for turn in example.messages if turn.role == "assistant"]
        assert said == [False, True]


@pytest.mark.parametrize("no", [False, 0, 0.0, "false", "0", " False "])
@pytest.mark.parametrize("flag", ["weight", "loss", "train", "training"])
def test_a_flag_may_be_spelt_in_any_way(flag: str, no: Any) -> None:
    assert learnt(USER, {**BAD, flag: no}, USER, GOOD) == [False, True]
    assert learnt({**USER, flag: None}, {**BAD, flag: None}, USER, {**GOOD, flag: 1}) == [False, True]


@pytest.mark.parametrize(
    ("turn", "field", "words"),
    [
        ({**GOOD, "loss": "perhaps"}, "messages[1].loss", "'perhaps' does not say"),
        ({**GOOD, "weight": 0.5}, "messages[1].weight", "0.5 does not say"),
        ({**GOOD, "weight": 1, "train": False}, "messages[1]", "contradict each other"),
        ({**GOOD, "train_detail": [{"begin_offset": 0}]}, "messages[1].train_detail", "only parts of the turn"),
    ],
)
def test_a_flag_that_cannot_be_honoured_is_refused_with_the_turn(turn: Any, field: str, words: str) -> None:
    problem = problem_of({"messages": [USER, turn]})
    assert (problem.field, words in problem.message) == (field, True)
    assert "the user's" in problem_of({"messages": [{**USER, "train": True}, GOOD]}).message


def test_fields_that_are_null_are_as_if_they_were_not_there() -> None:
    assert len(examples_of(case("null-sharegpt-keys/mixedkeys.jsonl"))) == 3
    turns: list[dict[str, Any]] = [
        {**USER, "from": None, "value": None},
        {"from": "gpt", "value": "b", "role": None, "content": None},
    ]
    assert learnt(*turns) == [True]


@pytest.mark.parametrize("objective", ["dpo", "orpo"])
def test_transcripts_with_a_common_beginning_are_preferences(objective: str) -> None:
    first = examples_of(case("hh.jsonl"), objective)[0]
    asked, good, poor = (
        Message("user", "Frage 0?"),
        Message("assistant", "Gute Antwort."),
        Message("assistant", "Schlechte."),
    )
    assert first == Preference((asked,), (good,), (poor,), row=1)
    longer = "\n\nHuman: a\n\nAssistant: b\nc\n\n- d\n\nHuman: e"
    [pair] = examples_of([{"chosen": f"{longer}\n\nAssistant: f", "rejected": f"{longer}\n\nAssistant: g"}], objective)
    assert isinstance(pair, Preference)
    assert [turn.content for turn in pair.prompt] == ["a", "b\nc\n\n- d", "e"]
    [pair] = examples_of([{"prompt": f"{longer}\n\nAssistant:", "chosen": "f", "rejected": "g"}], objective)
    assert isinstance(pair, Preference)
    assert [turn.role for turn in pair.prompt] == ["user", "assistant", "user"]


@pytest.mark.parametrize(
    ("chosen", "rejected", "words"),
    [
        ("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: a\n\nAssistant: b", "equals chosen"),
        (
            "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
            "\n\nHuman: a\n\nAssistant: e",
            "questions behind",
        ),
        ("\n\nHuman: a\n\nAssistant: b", "\n\nHuman: c\n\nAssistant: d", "begin differently"),
    ],
)
def test_transcripts_that_prefer_nothing_are_refused(chosen: str, rejected: str, words: str) -> None:
    assert words in problem_of({"chosen": chosen, "rejected": rejected}, "dpo").message


@pytest.mark.parametrize("template", [TOOLS, TEXT_ARGUMENTS])
@pytest.mark.parametrize(
    "row",
    [
        {"messages": CALLING},
        {"messages": [USER, {**CALLING[1], "tool_calls": None, "function_call": CALL["function"]}, *CALLING[2:]]},
        {
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "function_call", "value": '{"name": "wetter", "arguments": {"ort": "X"}}'},
                {"from": "observation", "value": "12 Grad"},
                {"from": "gpt", "value": "Es sind 12 Grad."},
            ],
            "tools": '[{"name": "wetter", "parameters": {"type": "object"}}]',
        },
    ],
)
def test_calls_are_learnt_and_results_are_not(tmp_path: Path, template: str, row: dict[str, Any]) -> None:
    [example] = examples_of([row])
    assert isinstance(example, Conversation)
    assert example.messages[1].calls[0].arguments == {"ort": "X"}
    renderer = Renderer.load(write_chat_model(tmp_path, template))
    rendered = renderer.example(example)["conversation"]
    assert trained(rendered) == [
        '<tool_call>{"name": "wetter", "arguments": {"ort": "X"}}</tool_call><|im_end|>',
        "<think></think>Es sind 12 Grad.<|im_end|>",
    ]
    text = "".join(piece.text for piece in rendered.pieces)
    assert ('"name": "wetter", "parameters"' in text) == bool(example.tools)


def test_arguments_that_are_null_stay_and_those_that_parquet_fills_in_go(tmp_path: Path) -> None:
    given: list[dict[str, Any]] = [{"ort": "X", "tag": None, "mehr": {"a": None}}, {"stunde": 7}]
    rows = [
        {"messages": [USER, {**CALLING[1], "tool_calls": [{"name": "wetter", "arguments": arguments}]}, *CALLING[2:]]}
        for arguments in given
    ]

    def arguments_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [cast(Conversation, example).messages[1].calls[0].arguments for example in examples_of(rows)]

    assert arguments_of(rows) == given
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert arguments_of(list(read_rows(path, TableFormat("parquet")))) == [{"ort": "X", "mehr": {}}, {"stunde": 7}]


def test_a_confined_template_writes_tools_as_the_training_does(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "wetter"}}
    renderer = Renderer.load(write_chat_model(tmp_path, TOOLS))
    calling = Message("assistant", "", calls=(ToolCall("wetter", {"ort": "X"}),))
    turns = [Message("user", "a"), calling, Message("tool", "12")]
    expected = "".join(piece.text for piece in renderer.prompt(turns, (tool,)).pieces)
    template = ConfinedTemplate(TOOLS, {})
    assert template.render([renderer.abilities.turn(turn) for turn in turns], [tool]) == expected
    template.close()


def test_a_template_that_knows_no_tools_is_refused_with_that_reason(tmp_path: Path) -> None:
    report = check(tmp_path, case("tools.jsonl"), CHATML)
    assert "writes no tool calls" in report.problems[0].message
    assert report.problems[0].row == 1
    assert check(tmp_path, case("tools.jsonl"), TOOLS).refused == 0
    with pytest.raises(RenderingError, match="does not tell the model of tools"):
        Renderer.load(write_chat_model(tmp_path / "b", CHATML)).prompt(
            (Message("user", "a"),), ({"type": "function", "function": {"name": "wetter"}},)
        )


@pytest.mark.parametrize("arguments", ["{", "[1]", 5])
def test_arguments_that_are_no_object_are_refused(arguments: Any) -> None:
    call = {"function": {"name": "f", "arguments": arguments}}
    problem = problem_of({"messages": [USER, {"role": "assistant", "tool_calls": [call]}]})
    assert problem.field == "messages[1].tool_calls[0].arguments"


@pytest.mark.parametrize("name", ["reasoning", "thinking"])
def test_thoughts_are_learnt_where_the_template_writes_them_and_named_where_not(tmp_path: Path, name: str) -> None:
    rows = case(f"reasoning-dropped/{name}.jsonl")
    renderer = Renderer.load(write_chat_model(tmp_path / "thinks", TOOLS))
    assert trained(renderer.example(examples_of(rows)[0])["conversation"]) == [
        "<think>Gedanke 0</think>Antwort 0<|im_end|>"
    ]
    warned = [problem.message for problem in check(tmp_path, rows, CHATML).warnings]
    assert any("does not write reasoning" in text and f"{len(rows)} rows (1, 2, 3, …)" in text for text in warned)


def test_fields_of_turns_that_nobody_reads_are_named_once_with_rows(tmp_path: Path) -> None:
    rows = [{"messages": [{**USER, "content": str(n), "mood": "grim", "x": None}, GOOD]} for n in range(40)]
    [found] = [problem for problem in check(tmp_path, rows, None).warnings if "mood" in problem.message]
    assert found.message == "40 rows (1, 2, 3, …): the field mood of turns is not read."


def test_turns_are_merged_and_unanswered_ones_left_out_by_choice() -> None:
    rows = [{"messages": [USER, USER, GOOD, GOOD, USER]}]
    [example] = examples_of(rows, rules=TurnRules(merge_turns=True, unanswered="drop"))
    assert isinstance(example, Conversation)
    assert [turn.content for turn in example.messages] == ["a\n\na", "good\n\ngood"]
    assert "merge_turns: true" in str(problem_of(rows[0]).remedy)
    assert "unanswered: drop" in str(problem_of({"messages": [USER, GOOD, USER]}).remedy)
    unlike = {"messages": [USER, {**GOOD, "train": True}, BAD]}
    assert "only one of them is to be learnt" in problem_of(unlike, rules=TurnRules(merge_turns=True)).message


def test_refusals_that_repeat_are_counted_and_said_once(tmp_path: Path) -> None:
    rows = [{"messages": [USER, {**GOOD, "content": f"{n}"}, *([USER, GOOD] * n), USER]} for n in range(30)]
    report = check(tmp_path, rows, None)
    [kind] = report.refused_kinds
    assert (kind.count, kind.rows) == (30, (1, 2, 3))


def long_rows(late: range, count: int = 33) -> list[dict[str, Any]]:
    return [
        {"messages": [{**USER, "content": f"{n:03} " + "wort " * (60 if n in late else 2)}, GOOD]} for n in range(count)
    ]


def test_answers_that_begin_after_max_length_are_counted_before_the_job(tmp_path: Path) -> None:
    training = {"epochs": 1, "batch_size": 4, "max_length": 128}
    some = check(tmp_path, long_rows(range(3)), CHATML, training=training)
    assert (some.problems, some.unlearnable, some.unlearnable_rows) == ((), 3, (1, 2, 3))
    assert some.held_out is not None
    assert some.held_out.train + some.held_out.validation == 30
    [warning] = [problem for problem in some.warnings if "will be left out" in problem.message]
    assert "3 rows (1, 2, 3)" in warning.message

    none = check(tmp_path, long_rows(range(33)), CHATML, training=training)
    [problem] = none.problems
    assert (problem.field, problem.row) == ("training.max_length", 1)
    assert not any("to train on" in warning.message for warning in none.warnings)
    needed = none.unlearnable_tokens
    assert f"Raise max_length to {needed}" in str(problem.remedy)
    mended = {**training, "max_length": needed}
    assert check(tmp_path, long_rows(range(33)), CHATML, training=mended).unlearnable == 0
    mended["max_length"] = needed - 1
    assert check(tmp_path, long_rows(range(33)), CHATML, training=mended).unlearnable == 33

    (tmp_path / "model" / "config.json").write_text('{"max_position_embeddings": 200}')
    [problem] = check(tmp_path, long_rows(range(33)), CHATML, training=training).problems
    assert "the base model reads no more than 200 tokens. max_length: 200 keeps more" in str(problem.remedy)
