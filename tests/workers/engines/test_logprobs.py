"""Tokens in answers: put together they are the text, whatever tokenizer the model has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, normalizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.language_models import CHAT_TEMPLATE, build_tiny_chat_tokenizer, build_tiny_llm
from workers.engines.embedded.app import create_app
from workers.engines.embedded.dialects.logprobs import Naming, Placed
from workers.engines.embedded.generation.answers import Piece
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.embedded.generation.sampling import Choice
from workers.engines.embedded.generation.text_stream import TextStream
from workers.engines.embedded.tasks.registry import LOADERS
from workers.engines.interface import EngineOrder

KEY = "key"
Ask = Callable[..., Any]


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Spaces are marks before words, the decoder takes the first one off; letters it lacks are bytes (Llama 2)."""
    words = ["\u2581", "a", "b", "n", "\u2581a", "\u2581b", "an", "\u2581an", "\u2581\u2581", "é"]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    merges = [("\u2581", "a"), ("\u2581", "b"), ("a", "n"), ("\u2581a", "n"), ("\u2581", "\u2581")]
    model = BPE({name: place for place, name in enumerate(names)}, merges, byte_fallback=True, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def build_llama(path: Path) -> Path:
    tokenizer = sentencepiece_like()
    torch.manual_seed(3)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(**shape, vocab_size=len(tokenizer), max_position_embeddings=256, eos_token_id=2)
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


TOKENIZERS = {"byte-level": build_tiny_chat_tokenizer(), "sentencepiece": sentencepiece_like()}


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(text=st.text(st.sampled_from("ab n é😀ä\u2581\N{REPLACEMENT CHARACTER}\n"), max_size=12), cut=st.integers(0, 20))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_the_parts_of_tokens_are_the_text(kind: str, text: str, cut: int) -> None:
    tokenizer = TOKENIZERS[kind]

    def decode(tokens: Any) -> str:
        return str(tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    tokens = tokenizer(text)["input_ids"]
    stream = TextStream(decode, [])
    parts = [stream.grow(token).text for token in tokens]
    assert "".join(parts) + stream.finish() == decode(tokens)
    # Behind a prompt of whole characters too.
    prompt = tokens[: min(cut, len(tokens))]
    if decode(tokens).startswith(decode(prompt)):
        stream = TextStream(decode, prompt)
        parts = [stream.grow(token).text for token in tokens[len(prompt) :]]
        assert decode(prompt) + "".join(parts) + stream.finish() == decode(tokens)


@pytest.fixture(scope="module", params=["byte-level", "sentencepiece"])
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Asks a model with random weights: most of what it says is half characters."""
    build = {"byte-level": build_tiny_llm, "sentencepiece": build_llama}[request.param]
    folder = build(tmp_path_factory.mktemp("model"))
    served = LOADERS["text-generation"](EngineOrder("a/b@1", "text-generation", folder, "d" * 64, 0, KEY))
    app = create_app("a/b@1", "d" * 64, served, KEY)

    def send(path: str, **body: Any) -> Any:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            headers = {"Authorization": f"Bearer {KEY}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://engine", headers=headers) as client:
                return await client.post(path, json=body)

        answer = asyncio.run(run())
        assert answer.status_code == 200, answer.text
        if answer.headers["content-type"].startswith("text/event-stream"):
            return [json.loads(line[6:]) for line in answer.text.splitlines() if line and line != "data: [DONE]"]
        return answer.json()

    yield send
    served.close()


def sound(choice: Any, top: int) -> None:
    """What holds for the log probabilities of every completion."""
    text, logprobs = choice["text"], choice["logprobs"]
    assert "".join(logprobs["tokens"]) == text
    for token, logprob, others, offset in zip(
        *(logprobs[name] for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")), strict=True
    ):
        assert text[offset:].startswith(token)
        assert (others is None) == (logprob is None)
        if others is not None:
            assert others[token] == logprob
            # The chosen token is there as well where it is none of the best.
            best = sorted(others.values(), reverse=True)[:top]
            assert len(others) == top + (logprob not in best)


@pytest.mark.parametrize("echo", [False, True])
def test_the_tokens_of_a_completion_make_up_its_text(ask: Ask, echo: bool) -> None:
    for seed in range(4):
        asked = {"prompt": "an ba é😀", "max_tokens": 24, "seed": seed, "logprobs": 20, "echo": echo}
        [choice] = ask("/v1/completions", **asked)["choices"]
        sound(choice, 20)
        assert choice["text"].startswith("an ba é😀") == echo
        assert echo or choice["logprobs"]["token_logprobs"][0] is not None
        chunks = [chunk["choices"][0] for chunk in ask("/v1/completions", **asked, stream=True)]
        assert "".join(chunk["text"] for chunk in chunks) == choice["text"]
        for field, whole in choice["logprobs"].items():
            assert [item for chunk in chunks for item in chunk["logprobs"][field]] == whole


def test_an_echoed_tokens_log_probability_is_the_one_it_has_as_an_answer(ask: Ask) -> None:
    asked = {"prompt": "an ba", "max_tokens": 8, "temperature": 0, "logprobs": 3}
    [answer] = ask("/v1/completions", **asked)["choices"]
    [echoed] = ask("/v1/completions", **{**asked, "echo": True})["choices"]
    assert echoed["text"] == "an ba" + answer["text"]
    assert echoed["logprobs"]["token_logprobs"][-8:] == pytest.approx(answer["logprobs"]["token_logprobs"], abs=1e-4)
    assert echoed["logprobs"]["token_logprobs"][0] is None


@pytest.mark.parametrize("build", [build_tiny_llm, build_llama])
def test_the_bytes_of_tokens_are_their_own(build: Callable[[Path], Path], tmp_path: Path) -> None:
    model = LanguageModel.load(build(tmp_path / "model"))
    naming, stream, text, own = Naming(model), TextStream(model.decode, []), "", []
    for token in model.encode("an é😀 ba\u4f60ä"):
        grown = stream.grow(token)
        own.append(naming.chosen(Placed(Piece(Choice(token, 0.0), *grown), grown.text, len(text))).own)
        text += grown.text
    assert (text, b"".join(own).decode()) == ("an é😀 ba\u4f60ä", text)
    # Each of the emoji's four tokens is a byte.
    at = next(place for place, part in enumerate(own) if part == b"\xf0")
    assert own[at : at + 4] == [b"\xf0", b"\x9f", b"\x98", b"\x80"]


def test_the_tokens_of_a_chat_make_up_its_text(ask: Ask) -> None:
    for seed in range(4):
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 24, "seed": seed}
        asked |= {"logprobs": True, "top_logprobs": 20}
        [choice] = ask("/v1/chat/completions", **asked)["choices"]
        content = choice["logprobs"]["content"]
        text = choice["message"]["content"]
        assert "".join(item["token"] for item in content) == text
        for item in content:
            assert len({other["token"] for other in item["top_logprobs"]}) == 20
            own = [other for other in item["top_logprobs"] if other["token"] == item["token"]]
            assert all(other["logprob"] == item["logprob"] and other["bytes"] == item["bytes"] for other in own)
        streamed = ask("/v1/chat/completions", **asked, stream=True)
        logprobs = [chunk["choices"][0]["logprobs"] for chunk in streamed]
        assert [item for part in logprobs if part for item in part["content"]] == content


def test_the_tokens_that_generate_tells_of_make_up_its_text(ask: Ask) -> None:
    for seed in range(4):
        parameters = {"max_new_tokens": 24, "seed": seed, "do_sample": True, "details": True, "top_n_tokens": 5}
        document = ask("/generate", inputs="an ba", parameters=parameters)
        details = document["details"]
        plain = [token["text"] for token in details["tokens"] if not token["special"]]
        assert "".join(plain) == document["generated_text"]
        assert {len(top) for top in details["top_tokens"]} == {5}


def test_what_a_stop_string_cuts_off_belongs_to_no_token(ask: Ask) -> None:
    asked: dict[str, Any] = {"prompt": "an ba", "max_tokens": 60, "seed": 1, "logprobs": 2}
    [free] = ask("/v1/completions", **asked)["choices"]
    stop = free["text"][20:23]
    [choice] = ask("/v1/completions", **asked, stop=stop)["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["text"] == free["text"][: free["text"].index(stop)]
    sound(choice, 2)
    streamed = [chunk["choices"][0] for chunk in ask("/v1/completions", **asked, stop=stop, stream=True)]
    assert "".join(token for chunk in streamed for token in chunk["logprobs"]["tokens"]) == choice["text"]
