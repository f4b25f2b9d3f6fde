"""A conversation is the same text and the same tokens where it is trained on and where it is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from corpus.conversations.examples import Message
from corpus.conversations.rendering import Renderer
from tests.chat_models import CHATML, MARKED, write_chat_model
from workers.engines.embedded.generation.language_model import LanguageModel, confined_template
from workers.local_models.base_model import load_tokenizer

TURNS = (
    Message("system", "Be brief.\n"),
    Message("user", "  How far is it to <the> \N{GREEK SMALL LETTER ALPHA}?"),
    Message("assistant", "4.2 light-years & more"),
    Message("user", "And\n\nback?"),
)
DATED = "{{ eos_token }}{% for message in messages %}\n  {{ message.content | trim }}\n{% endfor %}{{ tools is none }}"


def served_by(folder: Path, template: str | None = None) -> LanguageModel:
    """The engine's model, without the network: nothing here runs it."""
    tokenizer = load_tokenizer(folder)
    if template is not None:
        tokenizer.chat_template = template
    confined = confined_template(tokenizer)
    return LanguageModel(cast(Any, None), tokenizer, 512, frozenset(), torch.device("cpu"), {}, confined)


def tokens_of(served: LanguageModel, turns: tuple[Message, ...]) -> list[int]:
    try:
        return served.encode_rendered(served.render_chat(plain(turns)))
    finally:
        served.close()


def plain(turns: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


@pytest.mark.parametrize("template", [CHATML, MARKED, DATED], ids=["chatml", "marked", "spaces"])
def test_a_models_own_template_writes_the_same_in_training_and_serving(template: str, tmp_path: Path) -> None:
    renderer = Renderer.load(write_chat_model(tmp_path, template))
    prompt = renderer.prompt(TURNS)
    served = served_by(tmp_path)
    text = served.tokenizer.apply_chat_template(plain(TURNS), add_generation_prompt=True, tokenize=False)
    assert text == "".join(piece.text for piece in prompt.pieces)
    assert tokens_of(served, TURNS) == prompt.ids


@pytest.mark.parametrize("special", [("<|im_start|>", "<|im_end|>"), ("</s>",)], ids=["chatml", "plain"])
def test_the_default_template_is_served_as_it_was_trained_with(special: tuple[str, ...], tmp_path: Path) -> None:
    base = write_chat_model(tmp_path / "base", None, eos=special[-1], special=special)
    renderer = Renderer.load(base)
    assert renderer.template.origin == "default"
    # Training saves the template that it has used with the tokenizer.
    served_by(base, renderer.template.source).tokenizer.save_pretrained(tmp_path / "trained")
    served = served_by(tmp_path / "trained")
    assert tokens_of(served, TURNS) == renderer.prompt(TURNS).ids
    assert Renderer.load(tmp_path / "trained").prompt(TURNS).ids == renderer.prompt(TURNS).ids
