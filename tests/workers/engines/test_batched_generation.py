"""Answers as rows of one step: each says, bit for bit, what it says alone, whatever was read before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.language_models import build_tiny_chat_tokenizer
from tests.weights import stories260k
from workers.engines.embedded.generation.answers import Written, whole
from workers.engines.embedded.generation.batched import PIECE_TOKENS, ROWS, Batched
from workers.engines.embedded.generation.forward import InTurn
from workers.engines.embedded.generation.generator import Generator
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.embedded.generation.prefixes import Prefixes, digest_of
from workers.engines.embedded.generation.sampling import Sampling
from workers.engines.embedded.generation.trial import forward_of

SIZES = {"hidden_size": 40, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 512}
BATCHED: dict[str, dict[str, Any]] = {
    "llama": {},
    # Of sizes that divide evenly, so that steps of fewer rows are taken too.
    "olmo2": {"hidden_size": 64, "intermediate_size": 96, "head_dim": 32, "num_key_value_heads": 4},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": 20},
    "gemma3_text": {"sliding_window": 20, "query_pre_attn_scalar": 12},
}
IN_TURN: dict[str, dict[str, Any]] = {
    "gemma2": {"attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 12},
    "bloom": {},
}


def model_of(kind: str, folder: Path, **shape: Any) -> LanguageModel:
    """With random weights."""
    tokenizer = build_tiny_chat_tokenizer()
    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, vocab_size=264, eos_token_id=0, **{**SIZES, **shape})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return LanguageModel.load(folder)


def tokens_of(model: LanguageModel, count: int, seed: int) -> list[int]:
    dice = torch.Generator().manual_seed(seed)
    return [int(token) for token in torch.randint(5, model.vocabulary_size, (count,), generator=dice)]


def logits_of(batched: Batched, row: int, tokens: Sequence[int], others: Sequence[Sequence[int]]) -> torch.Tensor:
    """Behind each token that is written in this row beside others, 30 of each read before."""
    lines = [*others[:row], tokens, *others[row:]]
    caches = [batched.begin(len(line)) for line in lines]
    for cache, line in zip(caches, lines, strict=True):
        batched.read(cache, line[:30], scored=False, last=False)
    written = [batched.write(caches, [line[place] for line in lines])[row] for place in range(30, len(tokens))]
    return torch.stack(written)


@pytest.mark.parametrize("kind", ["stories260k", *BATCHED])
def test_a_rows_logits_are_the_same_bit_for_bit_whatever_the_others_hold(kind: str, tmp_path: Path) -> None:
    trained = kind == "stories260k"
    model = LanguageModel.load(stories260k()) if trained else model_of(kind, tmp_path, **BATCHED[kind])
    batched = forward_of(model)
    assert isinstance(batched, Batched)
    tokens = tokens_of(model, 45, 1)
    alone = logits_of(batched, 0, tokens, [])
    for row in range(ROWS):
        others = [tokens_of(model, 45, 10 * row + other) for other in range(ROWS - 1)]
        assert torch.equal(logits_of(batched, row, tokens, others), alone)
    with torch.inference_mode():
        expected = model.model(torch.tensor([tokens])).logits[0, 30:]
    assert torch.allclose(alone, expected, atol=1e-4 * float(expected.abs().max()))
    model.close()


@pytest.mark.parametrize("kind", IN_TURN)
def test_what_cannot_be_batched_is_generated_in_turn(kind: str, tmp_path: Path) -> None:
    model = model_of(kind, tmp_path, **IN_TURN[kind])
    prompt = tokens_of(model, 20, 1)
    expected = model.model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False)[0, 20:].tolist()
    generator = Generator(model)
    assert isinstance(generator._forward, InTurn)
    [written] = write(generator, [prompt], Sampling(len(expected), temperature=0))
    assert [choice.token for choice in written.choices] == expected
    generator.close()


def write(generator: Generator, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Written]:
    """All of them at once."""

    async def run() -> list[Written]:
        return await asyncio.gather(*(whole(generator.start(prompt, sampling)) for prompt in prompts))

    return asyncio.run(run())


@pytest.fixture
def generator() -> Iterator[Generator]:
    made = Generator(LanguageModel.load(stories260k()))
    yield made
    made.close()


def test_seventeen_answers_at_once_are_what_each_is_alone(generator: Generator) -> None:
    prompts = [tokens_of(generator.model, 3 + 11 * number, number) for number in range(17)]
    sampling = Sampling(20, temperature=0.9, seed=7, top_logprobs=2)
    together = write(generator, prompts, sampling)
    generator._prefixes.shrink(0)
    # With their log probabilities: every bit that can be seen.
    assert together == [write(generator, [prompt], sampling)[0] for prompt in prompts]


def test_a_prompt_whose_beginning_was_read_before_is_answered_alike(generator: Generator) -> None:
    common, read = tokens_of(generator.model, 150, 1), []
    run = generator._forward.read

    def counted(cache: Any, tokens: Sequence[int], **options: Any) -> torch.Tensor:
        read.append(len(tokens))
        return run(cache, tokens, **options)

    generator._forward.read = counted  # type: ignore[method-assign]
    prompt, sampling = [*common, *tokens_of(generator.model, 40, 2)], Sampling(20, seed=3, top_logprobs=2)
    [cold] = write(generator, [prompt], sampling)
    assert read == [PIECE_TOKENS, PIECE_TOKENS, 190 - 2 * PIECE_TOKENS]
    generator._prefixes.shrink(0)
    write(generator, [[*common, *tokens_of(generator.model, 7, 4)]], Sampling(1))
    read.clear()
    before = generator.tokens.prompt
    [warm] = write(generator, [prompt], sampling)
    assert warm == cold
    assert read == [190 - 2 * PIECE_TOKENS]
    assert generator.tokens.prompt == before + 190


def test_kept_beginnings_give_way_to_what_answers_need() -> None:
    small = Generator(LanguageModel.load(stories260k()), tokens_max=200)
    for seed in range(4):
        write(small, [tokens_of(small.model, 100, seed)], Sampling(20, temperature=0))
        assert small._prefixes.tokens == PIECE_TOKENS
    small.close()


def test_the_beginning_of_a_prompt_is_dropped_after_its_end() -> None:
    prefixes = Prefixes()
    digests: list[bytes] = []
    for number in range(3):
        digests.append(digest_of(digests[-1] if digests else b"", [number]))
        prefixes.add(digests[-1], torch.zeros(1, 2, 1, 4, 1))
    prefixes.used(digests)
    prefixes.shrink(8)
    assert [prefixes.get(digest) is not None for digest in digests] == [True, True, False]
    assert prefixes.tokens == 8
