"""The generator on a real, tiny language model."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from corpus.conversations.template_process import ConfinedTemplate
from jobspecs.kinds.finetune_llm import Lora
from scheduling.estimates.serving import PROMPT_TOKENS_PER_STEP
from tests.weights import stories260k
from workers.engines.embedded.batching import Overloaded
from workers.engines.embedded.generation.answers import Answer, Finish, Step, Written, whole
from workers.engines.embedded.generation.generator import Generator, PromptEmpty, PromptTooLong
from workers.engines.embedded.generation.language_model import ChatTemplateFailed, LanguageModel
from workers.engines.embedded.generation.preparing import Prompts
from workers.engines.embedded.generation.sampling import Sampling
from workers.local_models.adapters import new_adapter, write_adapter
from workers.run.context import RunFailed

GREEDY = Sampling(40, temperature=0)


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    made = Generator(LanguageModel.load(stories260k()))
    yield made
    made.close()


def write(generator: Generator, prompt: str, *samplings: Sampling) -> list[Written]:
    """All of them at the same time."""

    async def run() -> list[Written]:
        tokens = await generator.prompts.encode(prompt)
        return await asyncio.gather(*(whole(generator.start(tokens, sampling)) for sampling in samplings))

    return asyncio.run(run())


def test_greedy_text_is_the_one_that_transformers_generates(generator: Generator) -> None:
    model = generator.model
    prompt = model.encode("Once upon a time")
    expected = model.model.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False)[0].tolist()
    before = generator.tokens
    [written] = write(generator, "Once upon a time", GREEDY)
    assert generator.tokens == (before.prompt + len(prompt), before.generated + 40)
    assert [choice.token for choice in written.choices] == expected[len(prompt) :]
    assert model.decode(prompt) + written.text == model.decode(expected)
    assert (written.end.reason, written.end.new_tokens) == (Finish.length, 40)


def test_a_seed_gives_the_same_text_alone_and_among_others(generator: Generator) -> None:
    seeded = Sampling(40, temperature=0.9, top_p=0.95, top_k=50, seed=7)
    others = [Sampling(40, seed=seed) for seed in range(5)]
    [alone] = write(generator, "Once upon a time", seeded)
    among = write(generator, "Once upon a time", *others, seeded)
    assert among[-1].text == alone.text
    assert len({written.text for written in among}) == 6


def test_a_random_seed_is_told_so_that_the_text_can_be_had_again(generator: Generator) -> None:
    [first] = write(generator, "Tim", Sampling(20))
    [again] = write(generator, "Tim", Sampling(20, seed=first.end.seed))
    assert again.text == first.text


def test_log_probabilities_are_those_of_the_model(generator: Generator) -> None:
    [written] = write(generator, "Lily", Sampling(5, temperature=0, top_logprobs=3))
    prompt = generator.model.encode("Lily")
    tokens = [*prompt, *(choice.token for choice in written.choices)]
    with torch.inference_mode():
        expected = torch.log_softmax(generator.model.model(torch.tensor([tokens])).logits[0].float(), -1)
    for place, choice in enumerate(written.choices, start=len(prompt) - 1):
        assert choice.logprob == pytest.approx(float(expected[place, choice.token]), abs=1e-4)
        assert choice.top[0] == (choice.token, choice.logprob)
        assert len(choice.top) == 3


def test_a_long_prompt_is_read_in_pieces_with_the_same_result(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = "Once upon a time there was a dog. " * 8
    [at_once] = write(generator, prompt, GREEDY)
    assert at_once.end.prompt_tokens < PROMPT_TOKENS_PER_STEP
    monkeypatch.setattr("workers.engines.embedded.generation.generator.PROMPT_TOKENS_PER_STEP", 7)
    [in_pieces] = write(generator, prompt, GREEDY)
    assert in_pieces.text == at_once.text


def test_stop_strings_end_the_text_before_them(generator: Generator) -> None:
    [free] = write(generator, "Once upon a time", GREEDY)
    at = free.text.index("named")
    [stopped] = write(generator, "Once upon a time", Sampling(40, temperature=0, stop=("never there", "named")))
    assert stopped.text == free.text[:at]
    assert (stopped.end.reason, stopped.end.stop) == (Finish.stop_string, "named")


def test_penalties_keep_the_text_from_repeating_itself(generator: Generator) -> None:
    [plain, bent] = write(
        generator,
        "Once upon a time",
        Sampling(100, temperature=0),
        Sampling(100, temperature=0, repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.5),
    )
    distinct = [len({choice.token for choice in written.choices}) for written in (plain, bent)]
    assert distinct[1] > distinct[0]


def test_a_short_answer_is_not_held_up_by_a_long_one(generator: Generator) -> None:
    async def run() -> tuple[int, bool]:
        prompt = await generator.prompts.encode("Once upon a time")
        long = generator.start(prompt, Sampling(400, temperature=0))
        seen: list[Step] = []

        async def listen() -> None:
            async for step in long:
                seen.append(step)

        listening = asyncio.create_task(listen())
        while not seen:
            await asyncio.sleep(0)
        await whole(generator.start(prompt, Sampling(5, temperature=0)))
        finished = listening.done()
        long.cancel()
        listening.cancel()
        return len(seen), finished

    written, finished = asyncio.run(run())
    assert written < 100
    assert not finished


def test_a_cancelled_answer_makes_room_and_too_many_are_refused() -> None:
    small = Generator(LanguageModel.load(stories260k()), active_max=1, waiting_max=1)

    async def run() -> Written:
        prompt = await small.prompts.encode("Once")
        first = small.start(prompt, Sampling(400, temperature=0))
        await anext(first)
        waiting = small.start(prompt, Sampling(3, temperature=0))
        with pytest.raises(Overloaded):
            small.start(prompt, Sampling(3))
        waiting.cancel()
        instead = small.start(prompt, Sampling(3, temperature=0))
        first.cancel()
        return await whole(instead)

    assert asyncio.run(run()).end.new_tokens == 3
    small.close()


def test_a_prompt_that_fills_the_context_is_refused_and_one_that_nearly_does_is_cut_at_its_end(
    generator: Generator,
) -> None:
    context = generator.model.context_tokens
    with pytest.raises(PromptTooLong, match=f"{context + 1} tokens"):
        generator.room([5] * (context + 1))
    with pytest.raises(PromptEmpty, match="empty"):
        generator.room([])
    assert generator.room([5] * (context - 3)) == 3


def test_a_tokenizer_that_does_not_end_counts_as_stuck(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    monkeypatch.setattr(LanguageModel, "encode", lambda model, text: end.wait(10))

    async def run() -> float:
        reading = asyncio.ensure_future(generator.prompts.encode(""))
        await asyncio.sleep(0.1)
        stuck_s = generator.stuck_s()
        end.set()
        await reading
        return stuck_s

    assert asyncio.run(run()) > 0.05
    assert generator.stuck_s() == 0


def test_a_tokenizer_that_panics_fails_its_own_request_only(generator: Generator) -> None:
    tokenizer = generator.model.tokenizer.backend_tokenizer
    before = tokenizer.pre_tokenizer
    tokenizer.pre_tokenizer = Split(Regex("(a+)+$"), "isolated")
    try:
        with pytest.raises(RuntimeError, match="retry-limit"):
            asyncio.run(generator.prompts.encode("a" * 40 + "c"))
    finally:
        tokenizer.pre_tokenizer = before
    [written] = write(generator, "Once", Sampling(3, temperature=0))
    assert written.end.new_tokens == 3


def test_a_template_that_does_not_end_fails_its_request_while_others_are_answered(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = ConfinedTemplate("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", {})
    endless_prompts = Prompts(replace(generator.model, template=template))
    monkeypatch.setattr(generator, "prompts", endless_prompts)

    async def run() -> Written:
        endless = asyncio.ensure_future(generator.prompts.encode_chat([{"role": "user", "content": "Hi"}]))
        written = await whole(generator.start(await generator.prompts.encode("Once"), Sampling(5, temperature=0)))
        with pytest.raises(ChatTemplateFailed, match="takes too much time"):
            await endless
        return written

    assert asyncio.run(run()).end.new_tokens == 5
    assert generator.stuck_s() == 0
    endless_prompts.close()
    template.close()


def test_no_more_tokens_grow_at_once_than_the_memory_has_room_for() -> None:
    small = Generator(LanguageModel.load(stories260k()), tokens_max=100)
    assert small.model.context_tokens == 100

    async def run() -> int:
        prompt = await small.prompts.encode("Once")
        answers = [small.start(prompt, Sampling(40, temperature=0, seed=1)) for _ in range(4)]
        most = 0

        async def listen(answer: Answer) -> None:
            nonlocal most
            async for _ in answer:
                most = max(most, sum(task.tokens_at_most for task in list(small._active)))

        await asyncio.gather(*map(listen, answers))
        return most

    assert 80 < asyncio.run(run()) <= 100
    small.close()


def test_a_failing_step_ends_its_own_answer_only(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    write = generator._forward.write

    def failing(caches, tokens):  # type: ignore[no-untyped-def]
        # Every step with the longer one among its rows.
        if any(cache.data.shape[3] > 8 for cache in caches):
            raise RuntimeError("no luck")
        return write(caches, tokens)

    monkeypatch.setattr(generator._forward, "write", failing)

    async def run() -> list[Written | BaseException]:
        prompt = await generator.prompts.encode("Once")
        answers = [generator.start(prompt, Sampling(tokens, seed=12)) for tokens in (5, 9)]
        return await asyncio.gather(*(whole(answer) for answer in answers), return_exceptions=True)

    fine, failed = asyncio.run(run())
    assert isinstance(fine, Written)
    assert isinstance(failed, RuntimeError)


def test_an_adapter_is_served_over_its_base(tmp_path: Path) -> None:
    base = LanguageModel.load(stories260k())
    adapted = new_adapter(copy.deepcopy(base.model), Lora(rank=4), seed=1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05, generator=torch.Generator().manual_seed(2))
    write_adapter(adapted, tmp_path, "ada/stories@1")
    served = LanguageModel.load(tmp_path, base_dir=stories260k())
    tokens = torch.tensor([base.encode("Once upon a time")])
    with torch.inference_mode():
        expected, actual, before = (model(tokens).logits for model in (adapted.eval(), served.model, base.model))
    assert torch.allclose(actual, expected, atol=1e-4)
    assert not torch.allclose(actual, before, atol=1e-2)
    with pytest.raises(RunFailed, match="the model that it changes is not there"):
        LanguageModel.load(tmp_path)
