"""How answers end, and what a card says of the rows that judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from corpus.checks.rows import CheckedFile
from corpus.held_out import parts_of
from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.registry import parse_spec
from tests.chat_models import CHATML, write_chat_model
from tests.language_models import build_tiny_chat_tokenizer
from tests.workers.training.kept import assert_told_again
from tests.workers.training.llm.attempts import LlmAttempt, llm_document, write_jsonl
from workers.training.llm.preparing import scored
from workers.training.llm.rows import load_examples, load_renderer, mismatched, render, turn_end


def spec_of(**changes: Any) -> FinetuneLlm:
    spec = parse_spec(llm_document(**changes))
    assert isinstance(spec, FinetuneLlm)
    return spec


@pytest.mark.parametrize("template", [None, CHATML])
def test_a_base_models_answers_end_with_what_the_template_ends_turns_with(
    template: str | None, tmp_path: Path, chats: Path
) -> None:
    folder = write_chat_model(tmp_path / "base", template, eos="<|endoftext|>")
    examples = load_examples(parts_of(CheckedFile.of(chats)), spec_of()).train
    assert turn_end(examples, load_renderer(folder, spec_of())) == "<|im_end|>"


def test_the_result_of_a_base_model_stops_where_its_answers_ended(tmp_path: Path, tiny_llm: Path, chats: Path) -> None:
    attempt = LlmAttempt(tmp_path, tiny_llm, chats)
    config = json.loads((tiny_llm / "tokenizer_config.json").read_text(encoding="utf-8"))
    base = tmp_path / "base"
    base.mkdir()
    for path in tiny_llm.iterdir():
        (base / path.name).write_bytes(path.read_bytes())
    (base / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": "<|pad|>"}), encoding="utf-8")
    attempt.model = base
    attempt.run(training={"epochs": 0.2})
    saved = json.loads((attempt.out / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert saved["eos_token"] == "<|im_end|>"


def test_mismatched_answers_of_kto_are_cut_as_rows_are(tmp_path: Path) -> None:
    """Rows of 64 tokens and less, whose prompts and answers of other rows would make more."""
    rows = [
        {
            "prompt": f"{row}" + "why " * (1 + 4 * (row % 2)),
            "completion": "so " * (12 - 11 * (row % 2)),
            "label": row % 3 > 0,
        }
        for row in range(12)
    ]
    spec = spec_of(objective="kto")
    examples = load_examples(parts_of(CheckedFile.of(write_jsonl(tmp_path / "judged.jsonl", rows))), spec).train
    made = render(examples, load_renderer(write_chat_model(tmp_path / "base", CHATML), spec), spec, 60)
    both = scored(made, spec)
    assert len(both) == 2 * len(made) and both.lengths.max() == 60
    assert (both.supervised >= 1).all()
    uncut = mismatched(made.sequences, 10_000)
    assert uncut.lengths.max() > 60
    for row in range(len(made)):
        whole = uncut.ids[uncut.offsets[row] : uncut.offsets[row + 1]]
        cut = both.ids[both.offsets[len(made) + row] : both.offsets[len(made) + row + 1]]
        assert cut.tolist() == whole[:60].tolist()


@pytest.mark.parametrize("objective", ["kto", "dpo", "sft"])
def test_a_model_with_few_positions_is_never_asked_for_more(objective: str, tmp_path: Path) -> None:
    """GPT-2 looks its positions up in a table: one too many is an IndexError. Samples need positions as well."""
    tokenizer = build_tiny_chat_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=2, eos_token_id=2
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    long, short = "so " * 40, "no"
    rows: dict[str, list[dict[str, Any]]] = {
        "kto": [
            {"prompt": f"{row}", "completion": long if row % 2 else short, "label": row % 3 > 0} for row in range(8)
        ],
        "dpo": [{"prompt": f"{row}", "chosen": long, "rejected": short} for row in range(8)],
        "sft": [{"prompt": f"{row} {long}"[: 9 + 18 * (row % 2)], "completion": long} for row in range(8)],
    }
    attempt = LlmAttempt(tmp_path, tmp_path / "base", write_jsonl(tmp_path / "rows.jsonl", rows[objective]))
    changes: dict[str, Any] = {
        "training": {"epochs": 0.5, "max_length": 256},
        "generation": {"examples": 2, "max_new_tokens": 50},
    }
    manifest = attempt.run(objective=objective, tuning="full", **changes)
    assert manifest.metrics["train/loss"] > 0
    assert_told_again(attempt.out)


def test_a_card_says_that_held_out_rows_chose_the_weights(tmp_path: Path, tiny_llm: Path, chats: Path) -> None:
    cards = []
    for keep_best in (False, True):
        attempt = LlmAttempt(tmp_path / str(keep_best), tiny_llm, chats)
        attempt.run(training={"epochs": 0.4, "keep_best": keep_best})
        cards.append((attempt.out / "README.md").read_text(encoding="utf-8"))
    assert ["flatter" in card for card in cards] == [False, True]


REFUSING = CHATML.replace(
    "{{ '<|im_start|>'",
    "{% if message.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{{ '<|im_start|>'",
    1,
)


def test_rows_that_the_template_refuses_are_bad_rows_and_the_log_counts_them_by_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Check and job leave the same rows out before they deal the others."""
    rows = []
    for number in range(40):
        turns = [{"role": "user", "content": f"ask {number}"}, {"role": "assistant", "content": "a"}]
        system = [{"role": "system", "content": "Be kind."}] if number % 4 == 0 else []
        rows.append({"messages": [*system, *turns, *([turns[0]] if number % 10 == 1 else [])]})
    file = CheckedFile.of(write_jsonl(tmp_path / "rows.jsonl", rows))
    folder = write_chat_model(tmp_path / "model", REFUSING)
    lenient = spec_of(data={"bad_rows": "skip"})
    report = check_data(lenient, file, Reader.load(folder))
    assert report is not None and report.held_out is not None
    assert (report.problems, report.refused, report.usable) == ((), 14, 26)
    assert [kind.count for kind in report.refused_kinds] == [10, 4]
    with caplog.at_level("WARNING", logger="workers.training.llm.rows"):
        split = load_examples(parts_of(file), lenient, load_renderer(folder, lenient))
    assert (len(split.train), len(split.validation)) == (report.held_out.train, report.held_out.validation)
    assert split.skipped == 14
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("left out: 10 rows (1, 5, 9, …): ") and "System role not supported" in first
    assert second.startswith("left out: 4 rows (2, 12, 22, …): ") and "nothing answers it" in second
    # Without skipping, the first of either kind refuses the job, in check and job.
    strict = check_data(spec_of(), file, Reader.load(folder))
    assert strict is not None
    assert [problem.row for problem in strict.problems] == [1]
    assert "14 rows can't be used" in strict.problems[0].message
