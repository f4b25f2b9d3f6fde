"""How answers end, and what a card says of the rows that judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.registry import parse_spec
from tests.chat_models import CHATML, write_chat_model
from tests.workers.training.llm.attempts import LlmAttempt, llm_document
from workers.training.llm.rows import load_examples, load_renderer, turn_end


def spec_of(**changes: Any) -> FinetuneLlm:
    spec = parse_spec(llm_document(**changes))
    assert isinstance(spec, FinetuneLlm)
    return spec


@pytest.mark.parametrize("template", [None, CHATML])
def test_a_base_models_answers_end_with_what_the_template_ends_turns_with(
    template: str | None, tmp_path: Path, chats: Path
) -> None:
    folder = write_chat_model(tmp_path / "base", template, eos="<|endoftext|>")
    examples = load_examples(chats, None, spec_of()).train
    assert turn_end(examples, load_renderer(folder)) == "<|im_end|>"


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


def test_a_card_says_that_held_out_rows_chose_the_weights(tmp_path: Path, tiny_llm: Path, chats: Path) -> None:
    cards = []
    for keep_best in (False, True):
        attempt = LlmAttempt(tmp_path / str(keep_best), tiny_llm, chats)
        attempt.run(training={"epochs": 0.4, "keep_best": keep_best})
        cards.append((attempt.out / "README.md").read_text(encoding="utf-8"))
    assert ["flatter" in card for card in cards] == [False, True]
