"""Chat and completions over HTTP, from the real clients people have to a real language model's engine."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import uvicorn
from huggingface_hub import InferenceClient
from huggingface_hub.errors import ValidationError

from jobspecs.manifest import Manifest, ManifestFile
from tests.api.conftest import PATIENCE_S, Api, sha256
from tests.workers.inference.stories import with_chat_template
from workers.engines.embedded.app import create_app
from workers.engines.embedded.generation.generator import Generator
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.embedded.tasks.language_model import ServedLanguageModel

KEY = "engine-key"
ASK: Any = [{"role": "user", "content": "Tell me a story."}]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generator]:
    made = Generator(LanguageModel.load(with_chat_template(tmp_path_factory.mktemp("stories"))))
    yield made
    made.close()


@pytest.fixture(scope="module")
def engine(generator: Generator) -> Iterator[str]:
    """The engine's address."""
    app = create_app("ada/stories@1", "d" * 64, ServedLanguageModel("ada/stories@1", generator, "d" * 64), KEY)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=PATIENCE_S)
    listener.close()


@pytest.fixture
def served(api: Api, engine: str) -> Api:
    """An API whose user has deployed the model as `stories`."""
    file = ManifestFile(path="model.safetensors", bytes=1000, sha256=sha256(b""))
    manifest = Manifest(artifact="model", task="text-generation", files=(file,))
    with api.database.unit_of_work() as work:
        work.models.add_version(api.user_id(), "stories", manifest=manifest, prefix="artifacts/1")
    assert api.client.put("/v1/deployments/stories").status_code == 202
    with api.database.unit_of_work() as work:
        row = work.deployments.find(api.reach(), "stories")
        assert row is not None
        row.host, row.state, row.endpoint, row.endpoint_key = "host-1", "ready", engine, KEY
    return api


@pytest.fixture
def sdk(served: Api) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=token_of(served), max_retries=0) as client:
        yield client


@pytest.fixture
def hub_client(served: Api) -> InferenceClient:
    return InferenceClient(base_url=f"{served.url}/models/{served.user}/stories", token=token_of(served))


def token_of(api: Api) -> str:
    return str(api.client.headers["Authorization"]).removeprefix("Bearer ")


def test_openais_client_chats(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="stories", messages=ASK, temperature=0, max_tokens=12)
    assert answer.model == "stories"
    assert (answer.choices[0].message.content or "").startswith(", there was")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12


def test_openais_client_streams_a_chat(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(model="stories", messages=ASK, seed=3, max_tokens=20)
    stream = sdk.chat.completions.create(
        model="stories", messages=ASK, seed=3, max_tokens=20, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == (
        whole.choices[0].message.content
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20


def test_openais_client_completes(sdk: openai.OpenAI) -> None:
    answer = sdk.completions.create(model="stories", prompt="Once upon a time", temperature=0, max_tokens=8, logprobs=1)
    assert answer.choices[0].text.startswith(", there was")
    assert answer.choices[0].logprobs is not None
    assert len(answer.choices[0].logprobs.tokens or []) == 8


def test_openais_client_names_the_error(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="context holds 512") as too_long:
        sdk.completions.create(model="stories", prompt="word " * 600)
    assert too_long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError, match="no deployment absent"):
        sdk.chat.completions.create(model="absent", messages=ASK)
    with pytest.raises(openai.BadRequestError, match="no such role"):
        sdk.chat.completions.create(model="stories", messages=[{"role": "bad", "content": "x"}])  # type: ignore[list-item, misc]


def test_openais_client_reads_a_prompt_without_an_answer(sdk: openai.OpenAI) -> None:
    asked: Any = {"model": "stories", "prompt": "Once upon a time", "max_tokens": 0}
    scored = sdk.completions.create(**asked, echo=True, logprobs=1)
    assert scored.choices[0].text == "Once upon a time"
    assert scored.choices[0].logprobs is not None
    assert [value is None for value in scored.choices[0].logprobs.token_logprobs or []] == [True] + [False] * 4
    nothing = sdk.completions.create(**asked)
    assert (nothing.choices[0].text, nothing.choices[0].finish_reason) == ("", "length")
    assert nothing.usage is not None
    assert (nothing.usage.prompt_tokens, nothing.usage.completion_tokens) == (5, 0)
    assert "".join(chunk.choices[0].text for chunk in sdk.completions.create(**asked, echo=True, stream=True)) == (
        "Once upon a time"
    )


def test_openais_client_bends_and_narrows_what_is_drawn(sdk: openai.OpenAI) -> None:
    asked: Any = {"model": "stories", "prompt": "Once upon a time", "max_tokens": 8}
    greedy = sdk.completions.create(**asked, temperature=0)
    assert sdk.completions.create(**asked, top_p=0).choices[0].text == greedy.choices[0].text
    assert greedy.system_fingerprint == "fp_dddddddddddd"
    one = sdk.completions.create(**asked, logit_bias={"300": 100})
    assert len(set(one.choices[0].text.split())) == 1
    with pytest.raises(openai.BadRequestError, match="knows the tokens 0 to 511"):
        sdk.completions.create(**asked, logit_bias={"512": 1})


def test_openais_client_gets_the_best_of_several(sdk: openai.OpenAI) -> None:
    asked: Any = {"model": "stories", "prompt": "Once upon a time", "max_tokens": 8, "seed": 1, "logprobs": 0}
    drawn = sdk.completions.create(**asked, n=4).choices

    def mean(choice: Any) -> float:
        return float(sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs))

    best = sdk.completions.create(**asked, n=2, best_of=4)
    assert [choice.text for choice in best.choices] == [
        choice.text for choice in sorted(drawn, key=mean, reverse=True)[:2]
    ]
    assert best.usage is not None
    assert (best.usage.prompt_tokens, best.usage.completion_tokens) == (5, 32)


def test_a_model_or_an_adapter_that_is_not_there_is_never_answered_by_another(
    sdk: openai.OpenAI, hub_client: InferenceClient, served: Api
) -> None:
    with pytest.raises(openai.NotFoundError, match="no adapter 'ghost'") as ghost:
        sdk.chat.completions.create(model="stories", messages=ASK, extra_body={"adapter_id": "ghost"})
    assert (ghost.value.code, ghost.value.param) == ("model_not_found", "adapter_id")
    path = f"/models/{served.user}/stories"
    answer = served.client.post(f"{path}/generate", json={"inputs": "a", "parameters": {"adapter_id": "ghost"}})
    assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found")
    answer = served.client.post(f"{path}/v1/chat/completions", json={"model": "ghost", "messages": ASK})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    own = {"model": "stories", "messages": ASK, "max_tokens": 1}
    assert served.client.post(f"{path}/v1/chat/completions", json=own).status_code == 200


def test_the_hubs_client_gets_the_prompts_tokens_and_the_best_of_several(hub_client: InferenceClient) -> None:
    asked: Any = {"max_new_tokens": 6, "details": True}
    plain = hub_client.text_generation("Once upon a time", **asked)
    answer = hub_client.text_generation("Once upon a time", **asked, decoder_input_details=True)
    assert answer.generated_text == plain.generated_text
    assert answer.details is not None
    assert [token.text for token in answer.details.prefill] == ["<s>", "Once", " upon", " a", " time"]
    assert [token.logprob is None for token in answer.details.prefill] == [True] + [False] * 4
    several = hub_client.text_generation("Once upon a time", **asked, best_of=3, do_sample=True)
    assert several.details is not None
    assert len(several.details.best_of_sequences or []) == 2
    with pytest.raises(ValidationError, match="must use sampling"):
        hub_client.text_generation("Once upon a time", **asked, best_of=3)


def test_a_prompt_that_was_cut_has_a_sign(served: Api) -> None:
    path = f"/models/{served.user}/stories"
    for truncate, sign in ((2, "1"), (5, None)):
        asked = {"inputs": "Once upon a time", "parameters": {"truncate": truncate, "max_new_tokens": 1}}
        for route in ("/generate", "/generate_stream"):
            assert served.client.post(f"{path}{route}", json=asked).headers.get("x-truncated") == sign


PERSON: Any = {
    "type": "object",
    "properties": {"name": {"enum": ["Tim", "Lily"]}, "age": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def test_openais_client_gets_json_of_its_schema(sdk: openai.OpenAI) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    asked: Any = {"model": "stories", "messages": ASK, "response_format": wanted, "max_tokens": 60}
    texts = [sdk.chat.completions.create(**asked, temperature=1, seed=seed).choices[0] for seed in (1, 1, 2)]
    for choice in texts:
        person = json.loads(choice.message.content or "")
        assert (choice.finish_reason, person["name"] in ("Tim", "Lily"), 1 <= person["age"] <= 9) == (
            "stop",
            True,
            True,
        )
    assert texts[0].message.content == texts[1].message.content
    streamed = sdk.chat.completions.create(**asked, temperature=1, seed=1, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == texts[0].message.content
    with pytest.raises(openai.BadRequestError, match="no answer of this form") as refused:
        sdk.chat.completions.create(
            model="stories",
            messages=ASK,
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "http://a/b"}}},
        )
    assert refused.value.param == "response_format.json_schema.schema"


def test_openais_client_gets_a_json_object_or_one_of_its_choices(sdk: openai.OpenAI) -> None:
    free = sdk.chat.completions.create(
        model="stories", messages=ASK, response_format={"type": "json_object"}, max_tokens=30, seed=1
    )
    assert (free.choices[0].message.content or "").startswith("{")
    extra = {"guided_choice": ["ja", "nein"]}
    chosen = sdk.completions.create(model="stories", prompt="Tim", extra_body=extra)
    assert chosen.choices[0].text in ("ja", "nein")


def test_the_hubs_client_gets_texts_of_its_grammar(hub_client: InferenceClient) -> None:
    asked: Any = {"max_new_tokens": 60, "do_sample": True, "seed": 4}
    number = hub_client.text_generation("Call", **asked, grammar={"type": "regex", "value": r"[0-9]{3}-[0-9]{4}"})
    assert re.fullmatch("[0-9]{3}-[0-9]{4}", number)
    person = json.loads(hub_client.text_generation("Tim", **asked, grammar={"type": "json", "value": PERSON}))
    assert set(person) == {"name", "age"}


def test_openais_client_is_told_which_field_is_not_served(sdk: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "weather"}}
    with pytest.raises(openai.BadRequestError, match="known, but it isn't served here"):
        sdk.chat.completions.create(model="stories", messages=ASK, reasoning_effort="low")
    with pytest.raises(openai.BadRequestError, match="does not tell the model of tools") as refused:
        sdk.chat.completions.create(model="stories", messages=ASK, tools=[tool])
    assert (refused.value.param, refused.value.type) == ("tools", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="unknown field") as misspelt:
        sdk.chat.completions.create(model="stories", messages=ASK, extra_body={"temprature": 0})
    assert misspelt.value.param == "temprature"
    image: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]
    with pytest.raises(openai.BadRequestError) as picture:
        sdk.chat.completions.create(model="stories", messages=image)
    assert picture.value.param == "messages[0].content[0].type"
    with pytest.raises(openai.BadRequestError, match="context holds 512") as too_long:
        sdk.completions.create(model="stories", prompt="word " * 600)
    assert too_long.value.param == "prompt"


def test_the_hubs_client_generates(hub_client: InferenceClient) -> None:
    text = hub_client.text_generation("Once upon a time", max_new_tokens=8)
    assert text.startswith(", there was")
    details = hub_client.text_generation("Once upon a time", max_new_tokens=8, details=True)
    assert details.generated_text == text
    assert details.details is not None
    assert (details.details.finish_reason, len(details.details.tokens)) == ("length", 8)
    assert details.details.seed is None, "TGI has one only where something was drawn"
    assert "".join(hub_client.text_generation("Once upon a time", max_new_tokens=8, stream=True)) == text


def test_the_hubs_client_chats(hub_client: InferenceClient) -> None:
    answer = hub_client.chat_completion(ASK, max_tokens=12, temperature=0)
    assert (answer.choices[0].message.content or "").startswith(", there was")
    pieces = hub_client.chat_completion(ASK, max_tokens=12, temperature=0, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == answer.choices[0].message.content


def test_the_hubs_client_knows_our_refusals_for_those_of_text_generation_inference(hub_client: InferenceClient) -> None:
    with pytest.raises(ValidationError, match="context holds 512"):
        hub_client.text_generation("word " * 600)


def test_generate_names_the_kind_of_an_error_as_text_generation_inference_does(served: Api) -> None:
    path = f"/models/{served.user}/stories/generate"
    assert served.client.post(path, json={"inputs": 3}).json()["error_type"] == "validation"
    assert served.client.post(f"/models/{served.user}/absent/generate", json={"inputs": "x"}).json() == {
        "error": f"There is no deployment {served.user}/absent. Make one: eigenwerk deploy absent",
        "error_type": "not_found",
    }


def test_generate_and_its_stream_have_paths_of_their_own(served: Api) -> None:
    path = f"/models/{served.user}/stories"
    asked = {"inputs": "Once upon a time", "parameters": {"max_new_tokens": 6}}
    answer = served.client.post(f"{path}/generate", json=asked)
    assert answer.headers["x-generated-tokens"] == "6"
    stream = served.client.post(f"{path}/generate_stream", json=asked).text
    assert stream.count("data: ") == 6
    assert answer.json()["generated_text"].rsplit(" ", 1)[-1] in stream
    completion = served.client.post(f"{path}/v1/completions", json={"prompt": "Tim", "max_tokens": 2}).json()
    assert completion["model"] == f"{served.user}/stories"


def test_a_stream_flows_and_ends_in_the_engine_when_the_client_leaves(served: Api, generator: Generator) -> None:
    asked = {"model": "stories", "messages": ASK, "max_tokens": 450, "temperature": 0, "stream": True}
    with served.client.stream("POST", "/v1/chat/completions", json=asked) as answer:
        lines = answer.iter_lines()
        # The first event may come before the inference thread has taken the request up; the next one carries text.
        content = [line for line, _ in zip((line for line in lines if line), range(3), strict=False)]
        assert len(content) == 3
        assert generator._active
    await_idle(generator)


def test_an_answer_that_nobody_waits_for_is_not_finished(served: Api, generator: Generator) -> None:
    asked = {"model": "stories", "prompt": "Once upon a time", "max_tokens": 450, "temperature": 0, "n": 8}
    with pytest.raises(Exception, match="timed out"):
        served.client.post("/v1/completions", json=asked, timeout=0.3)
    assert generator._active
    await_idle(generator, timeout_s=1.0)


def test_another_users_model_is_not_found(served: Api) -> None:
    with served.as_user(served.new_user()) as other:
        for path, body in (
            ("/v1/chat/completions", {"model": f"{served.user}/stories", "messages": ASK}),
            (f"/models/{served.user}/stories/generate", {"inputs": "x"}),
            (f"/models/{served.user}/stories/v1/chat/completions", {"messages": ASK}),
        ):
            assert other.post(path, json=body).status_code == 404


@pytest.fixture
def dying(served: Api) -> Iterator[Api]:
    """The engine of `stories` sends one event and half of another one, then its process is gone."""
    event = b'data: {"choices": [{"index": 0, "delta": {"content": "Once"}}]}\n\ndata: {"choi'

    def die() -> None:
        with listener.accept()[0] as connection:
            connection.recv(65536)
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            connection.sendall(head + b"%x\r\n%b\r\n" % (len(event), event))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        with served.database.unit_of_work() as work:
            row = work.deployments.find(served.reach(), "stories")
            assert row is not None
            row.endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=die)
        thread.start()
        yield served
        thread.join(timeout=PATIENCE_S)


def test_openais_client_learns_that_the_engine_died_in_the_middle(dying: Api) -> None:
    with openai.OpenAI(base_url=f"{dying.url}/v1", api_key=token_of(dying), max_retries=0) as sdk:
        chunks = iter(sdk.chat.completions.create(model="stories", messages=ASK, stream=True))
        assert next(chunks).choices[0].delta.content == "Once"
        with pytest.raises(openai.APIError, match="stories broke off in the middle"):
            next(chunks)


def test_a_stream_of_tokens_says_too_that_the_engine_died_in_the_middle(dying: Api) -> None:
    stream = dying.client.post(f"/models/{dying.user}/stories/generate_stream", json={"inputs": "x"}).text
    assert json.loads(stream.strip().split("data: ")[-1])["error_type"] == "generation"


def await_idle(generator: Generator, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while generator._active:
        assert time.monotonic() < deadline, "the engine goes on"
        time.sleep(0.01)
