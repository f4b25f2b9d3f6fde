"""Chat data as public sets and tools write it: taken as it is meant, or refused with row, field and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.conversations.chat_template import ChatTemplate
from corpus.conversations.rendering import Renderer
from jobspecs.data_report import DataReport
from tests.chat_models import CHATML, byte_tokenizer, write_chat_model
from tests.corpus.test_recognising import examples_of
from tests.corpus.test_turns import TOOLS
from tests.pushing import push, seen

ASK, ANSWER = {"role": "user", "content": "frage"}, {"role": "assistant", "content": "antwort"}
OTHER = {"role": "assistant", "content": "anders"}
CALL = {"function": {"name": "wetter", "arguments": {"ort": "X"}}}
SEEN = "<|im_start|>user\nfrage<|im_end|>\n<|im_start|>assistant\n«antwort<|im_end|>»\n"
WITH_SYSTEM = f"<|im_start|>system\nregel<|im_end|>\n{SEEN}"
PAIR = f"{SEEN}\n{SEEN.replace('antwort', 'anders')}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chat_model(tmp_path_factory.mktemp("models") / "chatml", CHATML)


def written(folder: Path, row: dict[str, Any], ending: str) -> Path:
    """A file with this row, and others that differ in nothing that matters."""
    path = folder / f"rows.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist([row] * 3), path)
    elif ending == "csv":
        cells = ['"' + cell.replace('"', '""') + '"' for cell in row.values()]
        path.write_text("\n".join([",".join(row), *[",".join(cells)] * 3]), encoding="utf-8")
    else:
        path.write_text((json.dumps(row) + "\n") * 3, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "ending", "objective", "shown"),
    [
        ({"messages": json.dumps([ASK, ANSWER])}, "csv", "sft", SEEN),
        ({"messages": [json.dumps(ASK), json.dumps(ANSWER)]}, "jsonl", "sft", SEEN),
        ({"prompt": json.dumps([ASK]), "completion": json.dumps([ANSWER])}, "jsonl", "sft", SEEN),
        ({"prompt": "frage", "completion": '{"a": 1}'}, "jsonl", "sft", SEEN.replace("antwort", '{"a": 1}')),
        (
            {"messages": [{"from": "Human", "content": "frage"}, {"role": "AI", "value": "antwort"}]},
            "jsonl",
            "sft",
            SEEN,
        ),
        ({"messages": [{**ASK, "content": [{"text": "fra"}, "ge"]}, ANSWER]}, "jsonl", "sft", SEEN),
        ({"prompt": b"frage", "completion": b"antwort"}, "parquet", "sft", SEEN),
        ({"system": "regel", "messages": [ASK, ANSWER]}, "jsonl", "sft", WITH_SYSTEM),
        ({"system": "regel", "prompt": "frage", "completion": "antwort"}, "jsonl", "sft", WITH_SYSTEM),
        ({"chosen": json.dumps([ASK, ANSWER]), "rejected": json.dumps([ASK, OTHER])}, "csv", "dpo", PAIR),
        # A text answers a text, whatever it holds; but turns that repeat the question are turns.
        (
            {"prompt": "frage", "completion": json.dumps([ANSWER])},
            "jsonl",
            "sft",
            SEEN.replace("antwort", json.dumps([ANSWER])),
        ),
        (
            {"prompt": "frage", "chosen": json.dumps([ASK, ANSWER]), "rejected": json.dumps([ASK, OTHER])},
            "csv",
            "dpo",
            PAIR,
        ),
        (
            # UltraFeedback's: the chosen conversation stands there twice.
            {"prompt": "frage", "messages": [ASK, ANSWER], "chosen": [ASK, ANSWER], "rejected": [ASK, OTHER]},
            "parquet",
            "dpo",
            PAIR,
        ),
        ({"prompt": "frage", "completion": "antwort", "label": 1.0}, "parquet", "kto", SEEN),
    ],
)
def test_a_layout_is_read_as_it_is_meant(
    row: dict[str, Any], ending: str, objective: str, shown: str, tmp_path: Path, model: Path
) -> None:
    pushed = push(written(tmp_path, row, ending))
    assert seen(pushed.chats(objective)[:1], model) == [shown]
    assert pushed.check("finetune-llm", model, objective=objective).refused == 0


@pytest.mark.parametrize(
    ("row", "objective", "field", "words"),
    [
        ({"messages": str([ASK, ANSWER])}, "sft", "messages", "as Python writes it"),
        (
            {"messages": '[{"role": "user", "content": "x", "content": "y"}]'},
            "sft",
            "messages",
            "'content' appears twice",
        ),
        ({"messages": [ASK, ANSWER], "tools": '[{"name": "a", "name": "b"}]'}, "sft", "tools", "'name' appears twice"),
        ({"messages": [ASK, {**ANSWER, "loss_mask": 0}]}, "sft", "messages[1].loss_mask", "may say whether"),
        (
            {"messages": [ASK, {"role": "assistant", "refusal": "Nein."}]},
            "sft",
            "messages[1].content",
            "has role, refusal",
        ),
        (
            {"messages": [{**ASK, "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, ANSWER]},
            "sft",
            "messages[0].content[0]",
            "of the type 'image_url'",
        ),
        ({"prompt": "frage", "completion": {"a": 1}}, "sft", "completion", "not a text or turns but an object"),
        ({"prompt": "frage", "completion": 7}, "sft", "completion", "not a text or turns but a number"),
        (
            {"prompt": "etwas anderes", "chosen": [ASK, ANSWER], "rejected": [ASK, OTHER]},
            "dpo",
            "prompt",
            "not what chosen and rejected begin with",
        ),
        ({"prompt": "frage", "completion": "a", "label": "gut"}, "kto", "label", "'gut'"),
    ],
)
def test_what_nobody_can_read_is_refused_with_row_and_field(
    row: dict[str, Any], objective: str, field: str, words: str, tmp_path: Path
) -> None:
    report = push(written(tmp_path, row, "jsonl")).check("finetune-llm", objective=objective)
    assert report.refused == 3
    problem = report.refused_rows[0]
    assert (problem.row, problem.field, words in problem.message) == (1, field, True), problem
    assert problem.remedy


def test_numbers_and_missing_values_are_not_spelt_as_python_does(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"q": ["frage"] * 3, "a": [3.0, float("nan"), 0.5]}), path)
    report = push(path).check("finetune-llm", model, data={"prompt": "{q}", "completion": "{a}"})
    [problem] = report.refused_rows
    assert (problem.row, problem.field, "missing (NaN)" in problem.message) == (2, "a", True)
    [example, _] = examples_of([{"q": "frage", "a": 3.0}, {"q": "f", "a": 0.5}], prompt="{q}", completion="{a}")
    assert seen([example], model) == [SEEN.replace("antwort", "3")]


@pytest.mark.parametrize(
    ("row", "objective", "advice"),
    [
        (
            {"instruction": "i", "context": "c", "response": "r"},
            "sft",
            r'data: {prompt: "{instruction}\n\n{context}", completion: "{response}"}',
        ),
        (
            {"system_prompt": "s", "question": "q", "response": "r"},
            "sft",
            'data: {prompt: "{question}", completion: "{response}", system: "{system_prompt}"}',
        ),
        ({"question": "q", "chosen": "a", "rejected": "b"}, "dpo", 'data: {prompt: "{question}"}'),
        ({"conversation": [ASK, ANSWER]}, "sft", "Column 'conversation' holds turns: name it messages."),
    ],
)
def test_advice_for_columns_with_other_names_works(
    row: dict[str, Any], objective: str, advice: str, tmp_path: Path, model: Path
) -> None:
    pushed = push(written(tmp_path, row, "jsonl"))
    [problem] = pushed.check("finetune-llm", model, objective=objective).problems
    assert advice in (problem.remedy or "")
    if "data: " in advice:
        told = dict(part.split(': "') for part in advice.partition("{")[2].removesuffix('"}').split('", '))
        data = {name: text.replace(r"\n", "\n") for name, text in told.items()}
        assert pushed.check("finetune-llm", model, objective=objective, data=data).refused == 0


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"messages": [ASK, ANSWER], "images": ["a.png"], "weight": 0}, "columns that are not read: images, weight."),
        (
            {"messages": [ASK, {"role": "assistant", "tool_calls": [{**CALL, "result": "y"}]}]},
            "the field tool_calls.result of turns is not read",
        ),
        ({"messages": [{**ASK, "content": [{"text": "a", "mood": "x"}]}, ANSWER]}, "the field content.mood of turns"),
        ({"text": "### Human: frage\n### Assistant: antwort"}, "holds a whole chat"),
        ({"text": "<s>[INST] frage [/INST] antwort</s>"}, "holds a whole chat"),
        ({"prompt": "frage", "completion": "nan"}, "'nan' is how programs write that there is no value"),
    ],
)
def test_what_is_left_out_or_doubtful_is_said(row: dict[str, Any], words: str, tmp_path: Path) -> None:
    assert said(push(written(tmp_path, row, "jsonl")).check("finetune-llm"), words)


def said(report: DataReport, words: str) -> bool:
    return any(words in problem.message and problem.remedy for problem in report.warnings)


def test_thoughts_in_a_text_that_the_template_cuts_out_are_named() -> None:
    [example] = examples_of([{"messages": [ASK, {**ANSWER, "content": "<think>\nhm\n</think>\n\nantwort"}]}])
    cutting = CHATML.replace("message['content']", "message['content'].split('</think>')[-1]")
    for source, lost in ((CHATML, False), (cutting, True), (TOOLS, False)):
        unwritten = Renderer(byte_tokenizer(), ChatTemplate(source, "model", {})).unwritten(example)
        assert any("<think>" in name for name in unwritten) == lost
