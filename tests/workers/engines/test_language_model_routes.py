"""The embedded engine's HTTP for a language model, on a real, tiny one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.workers.inference.stories import with_chat_template
from workers.engines.embedded.app import create_app
from workers.engines.embedded.tasks.registry import LOADERS
from workers.engines.interface import EngineOrder

KEY = "correct"
GREEDY = {"temperature": 0, "max_tokens": 12}
ASK = [{"role": "user", "content": "Tell me a story."}]


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = with_chat_template(tmp_path_factory.mktemp("stories"))
    order = EngineOrder("alice/stories@2", "text-generation", folder, "d" * 64, 0, KEY)
    served = LOADERS[order.task](order)
    app = create_app(order.model, order.digest, served, KEY)

    def send(path: str, body: Any = None) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            headers = {"Authorization": f"Bearer {KEY}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://engine", headers=headers) as client:
                return await (client.get(path) if body is None else client.post(path, json=body))

        return asyncio.run(run())

    yield send
    served.close()


def events(answer: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_a_chat_is_answered_in_openais_shape(call: Any) -> None:
    answer = call("/v1/chat/completions", {"messages": ASK, **GREEDY, "model": "mine"})
    document = answer.json()
    [choice] = document["choices"]
    assert (document["object"], document["model"]) == ("chat.completion", "mine")
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"].startswith(", there was")
    assert choice["finish_reason"] == "length"
    usage = document["usage"]
    assert usage["completion_tokens"] == 12
    assert usage["total_tokens"] == usage["prompt_tokens"] + 12
    assert answer.headers["x-model"] == "alice/stories@2"


def test_a_streamed_chat_says_the_same_in_pieces(call: Any) -> None:
    asked = {"messages": ASK, **GREEDY}
    whole = call("/v1/chat/completions", asked).json()["choices"][0]["message"]["content"]
    answer = call("/v1/chat/completions", {**asked, "stream": True, "stream_options": {"include_usage": True}})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, usage, done = events(answer)
    assert done == "[DONE]"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == whole
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == [None, "length"]
    assert (usage["choices"], usage["usage"]["completion_tokens"]) == ([], 12)


def test_messages_may_consist_of_text_parts(call: Any) -> None:
    parts = [{"type": "text", "text": "Tell me "}, {"type": "text", "text": "a story."}]
    answers = [
        call("/v1/chat/completions", {"messages": [{"role": "user", "content": content}], **GREEDY}).json()
        for content in ("Tell me a story.", parts)
    ]
    assert answers[0]["choices"] == answers[1]["choices"]
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    assert call("/v1/chat/completions", {"messages": [{"role": "user", "content": image}]}).status_code == 422


def test_completions_continue_the_prompt(call: Any) -> None:
    document = call(
        "/v1/completions", {"prompt": "Once upon a time", **GREEDY, "echo": True, "logprobs": 2, "n": 2}
    ).json()
    first, second = document["choices"]
    assert first["text"] == second["text"]
    assert first["text"].startswith("Once upon a time, there was")
    assert (first["index"], second["index"]) == (0, 1)
    # <s>, the prompt's four tokens, and the answer's.
    assert len(first["logprobs"]["tokens"]) == 5 + 12
    assert "".join(first["logprobs"]["tokens"]) == first["text"]
    assert len(first["logprobs"]["top_logprobs"][-1]) == 2
    assert document["usage"] == {"prompt_tokens": 5, "completion_tokens": 24, "total_tokens": 29}


def test_chat_log_probabilities_name_the_best_tokens(call: Any) -> None:
    asked = {"messages": ASK, **GREEDY, "logprobs": True, "top_logprobs": 3}
    content = call("/v1/chat/completions", asked).json()["choices"][0]["logprobs"]["content"]
    assert len(content) == 12
    assert content[0]["top_logprobs"][0]["token"] == content[0]["token"]
    assert bytes(content[0]["bytes"]).decode() == content[0]["token"]


def test_choices_differ_and_a_seed_repeats_them(call: Any) -> None:
    asked = {"prompt": "Tim", "max_tokens": 20, "n": 3, "seed": 5}
    texts = [[choice["text"] for choice in call("/v1/completions", asked).json()["choices"]] for _ in range(2)]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == 3


def test_generate_answers_as_text_generation_inference_does(call: Any) -> None:
    parameters = {"max_new_tokens": 8, "details": True, "return_full_text": True, "top_n_tokens": 2}
    answer = call("/generate", {"inputs": "Once upon a time", "parameters": parameters})
    document = answer.json()
    details = document["details"]
    assert document["generated_text"].startswith("Once upon a time, there was")
    assert (details["finish_reason"], details["generated_tokens"]) == ("length", 8)
    assert set(details["tokens"][0]) == {"id", "text", "logprob", "special"}
    assert len(details["top_tokens"][0]) == 2
    assert answer.headers["x-generated-tokens"] == "8"


def test_a_stop_string_is_part_of_what_text_generation_inference_gives(call: Any) -> None:
    parameters = {"max_new_tokens": 40, "stop": ["named"], "details": True}
    document = call("/generate", {"inputs": "Once upon a time", "parameters": parameters}).json()
    assert document["generated_text"].endswith("named")
    assert document["details"]["finish_reason"] == "stop_sequence"


def test_generate_stream_numbers_its_tokens_and_ends_with_the_text(call: Any) -> None:
    asked = {"inputs": "Once upon a time", "parameters": {"max_new_tokens": 6, "details": True}}
    steps = events(call("/generate_stream", asked))
    assert [step["index"] for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [step["generated_text"] is None for step in steps] == [True] * 5 + [False]
    assert "".join(step["token"]["text"] for step in steps) == steps[-1]["generated_text"]
    assert steps[-1]["details"] == {**steps[-1]["details"], "finish_reason": "length", "input_length": 5}


def test_the_bare_path_streams_or_answers_with_a_list(call: Any) -> None:
    asked = {"inputs": "Once upon a time", "parameters": {"max_new_tokens": 3}}
    [document] = call("/", asked).json()
    assert events(call("/", {**asked, "stream": True}))[-1]["generated_text"] == document["generated_text"]


def test_tokenize_tells_where_each_token_stands(call: Any) -> None:
    tokens = call("/tokenize", {"inputs": "Once upon"}).json()
    assert tokens[0]["text"] == ""
    assert "".join(token["text"] for token in tokens).replace(" ", "") == "Onceupon"


def test_info_names_the_models_limits(call: Any) -> None:
    info = call("/info").json()
    assert (info["model_id"], info["max_total_tokens"], info["model_dtype"]) == ("alice/stories@2", 512, "float32")


@pytest.mark.parametrize(
    ("path", "body", "kind", "word"),
    [
        ("/v1/chat/completions", {"messages": []}, "validation", "messages"),
        ("/v1/chat/completions", {"messages": ASK, "tools": [{}]}, "validation", "tools"),
        ("/v1/chat/completions", {"messages": [{"role": "bad", "content": "a"}]}, "template_error", "no such role"),
        (
            "/v1/chat/completions",
            {"messages": [*ASK, {"role": "narrator", "content": "a"}]},
            "validation",
            "messages[1].role: 'narrator' is no role that the model's chat template reads. Use one of: system,",
        ),
        ("/v1/chat/completions", {"messages": [{"role": "user"}]}, "validation", "messages[0].content: the user's"),
        (
            "/v1/chat/completions",
            {"messages": [*ASK, {"role": "assistant", "content": None}]},
            "validation",
            "messages[1].content: the assistant's message has no text",
        ),
        ("/v1/chat/completions", {"messages": [{"role": "message", "content": "a"}]}, "validation", "is no role"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "a", "if": 1}]},
            "validation",
            "messages[0].if: the model's chat template does not read it",
        ),
        ("/v1/chat/completions", {"messages": ASK, "n": 2, "stream": True}, "validation", "one choice"),
        ("/v1/chat/completions", {"messages": ASK, "temperature": 3}, "validation", "temperature"),
        ("/v1/completions", {"prompt": "word " * 600}, "context_length_exceeded", "context holds 512"),
        ("/v1/completions", {"prompt": [600]}, "validation", "0 to 511"),
        ("/v1/completions", {"prompt": "a", "logit_bias": {"512": 1}}, "validation", "logit_bias"),
        ("/generate", {"inputs": "word " * 600}, "validation", "Input validation error"),
        ("/generate", {"inputs": "a", "stream": True}, "validation", "/generate_stream"),
        ("/generate", {"inputs": "a", "parameters": {"temperature": 0}}, "validation", "temperature"),
        ("/generate", {"inputs": "a", "parameters": {"grammar": {}}}, "validation", "parameters.grammar.type: "),
        (
            "/generate",
            {"inputs": "a", "parameters": {"grammar": {"type": "regex", "value": "["}}},
            "validation",
            "parameters.grammar.value: no answer of this form",
        ),
        ("/v1/completions", {"prompt": "a", "guided_json": {"type": "strin"}}, "validation", "Invalid type: strin"),
        ("/v1/completions", {"prompt": "a", "guided_regex": "a" * 100_001}, "validation", "100,000 at most"),
        (
            "/v1/completions",
            {"prompt": "a", "guided_regex": "a", "guided_choice": ["b"]},
            "validation",
            "guided_choice: guided_regex asks for another form",
        ),
        ("/generate", {"inputs": "a", "parameters": {"max_tokens": 3}}, "validation", "parameters.max_tokens: unknown"),
        ("/v1/completions", {"prompt": "a", "stop": ["b", ""]}, "validation", "stop[1]: "),
        ("/v1/completions", {"prompt": "a", "best_of": 2, "n": 3}, "validation", "best_of"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 3, "max_completion_tokens": 4}, "validation", "max_tokens"),
        ("/v1/chat/completions", {"messages": ASK, "top_logprobs": 3}, "validation", "top_logprobs"),
        (
            "/v1/chat/completions",
            {"messages": [*ASK, {"role": "assistant", "content": "", "tool_calls": [{}]}]},
            "validation",
            "messages[1].tool_calls",
        ),
    ],
)
def test_what_the_engine_cannot_do_is_refused_with_the_fields_name(
    call: Any, path: str, body: Any, kind: str, word: str
) -> None:
    answer = call(path, body)
    assert (answer.status_code, answer.json()["error_type"]) == (422, kind)
    assert word in answer.json()["error"]
    # The name of the field, which OpenAI's clients show beside the message.
    if kind == "validation" and len(str(body)) < 1000:
        assert f"{answer.json()['param']}: " in answer.json()["error"]


# The kind of `ignored-fields` among the cases.
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("guided_grammar", "root ::= a"),
        ("functions", [{"name": "f"}]),
        ("stop_token_ids", [5]),
        ("min_tokens", 3),
        ("ignore_eos", True),
        ("min_p", 0.1),
        ("typical_p", 0.5),
        ("bad_words", ["a"]),
        ("continue_final_message", True),
        ("chat_template_kwargs", {"enable_thinking": False}),
        ("prompt_logprobs", 1),
        ("temprature", 0),
        ("anything", None),
    ],
)
def test_a_field_that_nothing_reads_is_refused_by_its_name(call: Any, field: str, value: Any) -> None:
    for path, body in (("/v1/chat/completions", {"messages": ASK}), ("/v1/completions", {"prompt": "a"})):
        answer = call(path, {**body, **GREEDY, field: value})
        assert answer.status_code == 422, answer.text
        assert answer.json()["error"].startswith(f"{field}: ")


def test_a_field_that_asks_for_nothing_else_is_taken(call: Any) -> None:
    idle = {"user": "u", "metadata": {"a": "b"}, "store": True, "guided_json": None, "min_p": 0, "ignore_eos": False}
    chat = {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}, "service_tier": "auto"}
    message: dict[str, Any] = {**ASK[0], "refusal": None, "annotations": []}
    plain = call("/v1/chat/completions", {"messages": ASK, **GREEDY}).json()["choices"]
    assert call("/v1/chat/completions", {"messages": [message], **GREEDY, **idle, **chat}).json()["choices"] == plain
    assert call("/v1/completions", {"prompt": "a", **GREEDY, **idle, "suffix": "", "best_of": 1}).status_code == 200
    parameters = {"watermark": False, "typical_p": 1.0, "grammar": None, "max_new_tokens": 2}
    assert call("/generate", {"inputs": "a", "parameters": parameters, "options": {}}).status_code == 200
