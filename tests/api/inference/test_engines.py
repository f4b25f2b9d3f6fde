"""Deployments on engines of others, which answer OpenAI's routes: what they are sent, and what they may not be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

import pytest
from sqlalchemy import text

from jobspecs.manifest import Manifest, ManifestFile
from tests.api.conftest import Api, RunApi, sha256
from tests.loopback import serving

KEY = "engine-key"


class Engine(BaseHTTPRequestHandler):
    """Answers as llama.cpp does, and keeps what it was asked."""

    asked: ClassVar[list[tuple[str, str | None, dict[str, Any]]]] = []
    answer: tuple[int, dict[str, Any]] = (200, {"choices": [{"text": " and away", "index": 0}]})
    #: Of streams, the data of each event.
    chunks: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append((self.path, self.headers["Authorization"], body))
        status, document = type(self).answer
        content, kind = json.dumps(document).encode(), "application/json"
        if body.get("stream"):
            content, kind = b"".join(b"data: %s\n\n" % chunk for chunk in type(self).chunks), "text/event-stream"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Engine, "asked", [])
    with serving(Engine) as url:
        yield url


def register(api: Api, name: str = "sea", path: str = "sea-q4.gguf") -> None:
    file = ManifestFile(path=path, bytes=1000, sha256=sha256(b""))
    manifest = Manifest(artifact="model", files=(file,), task=None if path.endswith("gguf") else "text-generation")
    with api.database.unit_of_work() as work:
        work.models.add_version(api.user_id(), name, manifest=manifest, prefix="artifacts/1")


def ready(api: Api, endpoint: str, name: str = "sea", **more: Any) -> None:
    """Plays the inference worker."""
    with api.database.unit_of_work() as work:
        row = work.deployments.find(api.reach(), name)
        assert row is not None
        row.host, row.state, row.endpoint, row.endpoint_key = "one", "ready", endpoint, KEY
        for field, value in more.items():
            setattr(row, field, value)


@pytest.fixture
def served(api: Api, engine: str) -> Api:
    register(api)
    assert api.client.put("/v1/deployments/sea").status_code == 202
    ready(api, engine)
    return api


def test_a_gguf_is_served_by_llama_cpp_as_it_is_and_the_reason_is_told(api: Api) -> None:
    register(api)
    wanted = api.client.put("/v1/deployments/sea").json()
    assert wanted["engine"] == "llamacpp"
    assert "GGUF" in wanted["engine_reason"]
    refused = api.client.put("/v1/deployments/sea", json={"engine": "embedded"})
    assert refused.status_code == 422
    assert "safetensors" in refused.text
    assert api.client.put("/v1/deployments/sea", json={"engine": "no such"}).status_code == 422
    assert api.client.get("/v1/deployments/sea").json()["engine"] == "llamacpp", "a refusal changes nothing"


def test_an_engine_that_no_host_has_is_refused_with_what_to_do(api: Api) -> None:
    register(api)
    with api.database.unit_of_work() as work:
        work.hosts.announce_serving("one", memory_bytes=1 << 40, gpus=0, engines={"embedded": {"version": "1"}})
    try:
        answer = api.client.put("/v1/deployments/sea")
        (host,) = [host for host in api.client.get("/v1/hosts").json()["data"] if host["name"] == "one"]
    finally:
        with api.database.unit_of_work() as work:
            work.session.execute(text("DELETE FROM hosts WHERE name = 'one'"))
    assert answer.status_code == 422
    assert host["engines"] == {"embedded": {"version": "1", "environment": None}}
    assert "no host has llama.cpp" in answer.text
    assert api.client.get("/v1/deployments/sea").status_code == 404


def test_a_request_reaches_the_engine_with_its_key_and_without_what_changes_no_answer(served: Api) -> None:
    asked = {"model": "sea", "prompt": "far", "seed": 1, "user": "me"}
    answer = served.client.post("/v1/completions", json=asked)
    assert answer.json()["choices"][0]["text"] == " and away"
    (path, key, body) = Engine.asked.pop()
    assert (path, key) == ("/v1/completions", f"Bearer {KEY}")
    assert body == {"model": "sea", "prompt": "far", "seed": 1}


def test_a_field_that_the_engine_would_pass_over_never_reaches_it(served: Api) -> None:
    answer = served.client.post("/v1/completions", json={"model": "sea", "prompt": "far", "best_of": 3})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "best_of"
    assert "llama.cpp" in answer.json()["error"]["message"]
    assert Engine.asked == []


def test_the_engines_own_refusals_are_told_in_openais_words(served: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"code": 400, "message": "request (9 tokens) exceeds", "type": "exceed_context_size_error"}
    monkeypatch.setattr(Engine, "answer", (400, {"error": said}))
    answer = served.client.post("/v1/completions", json={"model": "sea", "prompt": "far"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    monkeypatch.setattr(Engine, "answer", (400, {"error": {"message": "no such thing", "type": "x", "param": "stop"}}))
    answer = served.client.post("/v1/completions", json={"model": "sea", "prompt": "far"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "no such thing")
    monkeypatch.setattr(Engine, "answer", (401, {"error": {"message": "Invalid API Key"}}))
    assert served.client.post("/v1/completions", json={"model": "sea", "prompt": "far"}).status_code == 503


def test_generate_is_translated_where_the_engine_has_no_such_route(served: Api) -> None:
    at = f"/models/{served.user}/sea"
    said = {"inputs": "far", "parameters": {"max_new_tokens": 3, "return_full_text": True, "details": False}}
    assert served.client.post(f"{at}/generate", json=said).json() == {"generated_text": "far and away"}
    _, _, body = Engine.asked.pop()
    assert body == {"model": f"{served.user}/sea", "prompt": "far", "max_tokens": 3, "temperature": 0}
    sampled = {"inputs": "far", "parameters": {"do_sample": True, "temperature": 0.5}}
    assert served.client.post(at, json=sampled).json() == [{"generated_text": " and away"}]
    assert Engine.asked.pop()[2]["temperature"] == 0.5


@pytest.mark.parametrize(
    "parameters", [{"decoder_input_details": True}, {"grammar": {"type": "regex", "value": "a"}}, {"adapter_id": "x"}]
)
def test_what_can_not_be_translated_is_refused_in_tgis_words(served: Api, parameters: dict[str, Any]) -> None:
    answer = served.client.post(f"/models/{served.user}/sea/generate", json={"inputs": "a", "parameters": parameters})
    assert (answer.status_code, answer.json()["error_type"]) == (422, "validation")
    assert answer.json()["error"].startswith("Input validation error: `parameters.")
    assert Engine.asked == []


def token(number: int, text: str) -> dict[str, Any]:
    return {"id": number, "token": text, "logprob": -0.5, "top_logprobs": [{"id": 9, "token": "x", "logprob": -1}]}


def test_tokens_are_told_in_tgis_shape_where_the_engine_has_their_ids(
    served: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"text": " and", "finish_reason": "stop", "logprobs": {"content": [token(3, " and"), token(4, " away")]}}
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    monkeypatch.setattr(Engine, "answer", (200, {"choices": [told], "usage": usage}))
    said = {"details": True, "top_n_tokens": 1, "stop": [" away"], "seed": 7}
    answer = served.client.post(f"/models/{served.user}/sea", json={"inputs": "far", "parameters": said}).json()
    assert Engine.asked.pop()[2]["n_probs"] == 1
    [document] = answer
    assert document["generated_text"] == " and away", "TGI leaves the stop string in"
    details = document["details"]
    assert (details["finish_reason"], details["generated_tokens"], details["seed"]) == ("stop_sequence", 2, 7)
    assert details["tokens"][0] == {"id": 3, "text": " and", "logprob": -0.5, "special": False}
    assert details["top_tokens"][1] == [{"id": 9, "text": "x", "logprob": -1, "special": False}]


def test_a_stream_of_tgis_shape_is_made_of_openais(served: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = [
        {"choices": [{"text": " and", "logprobs": {"content": [token(3, " and")]}}]},
        {"choices": [{"text": " away", "logprobs": {"content": [token(4, " away")]}}]},
        {"choices": [{"text": "", "finish_reason": "length"}], "usage": {"completion_tokens": 2, "prompt_tokens": 5}},
    ]
    monkeypatch.setattr(Engine, "chunks", [*(json.dumps(chunk).encode() for chunk in chunks), b"[DONE]"])
    said = {"inputs": "far", "parameters": {"details": True, "return_full_text": True}}
    answer = served.client.post(f"/models/{served.user}/sea/generate_stream", json=said)
    assert answer.headers["content-type"].startswith("text/event-stream")
    first, last = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    assert (first["index"], first["token"]["text"], first["generated_text"]) == (1, " and", None)
    assert (last["index"], last["token"]["id"], last["generated_text"]) == (2, 4, "far and away")
    assert last["details"] == {"finish_reason": "length", "generated_tokens": 2, "seed": None, "input_length": 5}


def test_a_stream_of_tgis_shape_tells_that_it_broke_off(served: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "chunks", [b'{"choices": [{"text": " a"}]}', b'{"error": {"message": "gone"}}'])
    answer = served.client.post(f"/models/{served.user}/sea", json={"inputs": "far", "stream": True})
    assert json.loads(answer.text.strip().removeprefix("data: ")) == {"error": "gone", "error_type": "generation"}


@pytest.mark.parametrize("chunk", [b"no JSON", b'{"choices": [{"text": null}]}', b'{"choices": 3}'])
def test_a_stream_that_can_not_be_read_says_so_in_tgis_words(
    served: Api, monkeypatch: pytest.MonkeyPatch, chunk: bytes
) -> None:
    monkeypatch.setattr(Engine, "chunks", [chunk])
    answer = served.client.post(f"/models/{served.user}/sea", json={"inputs": "far", "stream": True})
    assert json.loads(answer.text.strip().removeprefix("data: "))["error_type"] == "generation"


def test_tokens_of_texts_are_refused_where_there_are_none(served: Api) -> None:
    at = f"/models/{served.user}/sea"
    answer = served.client.post(f"{at}/tokenize", json={"inputs": "a"})
    assert answer.status_code == 422
    assert "llama.cpp" in answer.json()["error"]
    assert served.client.get(f"{at}/info").json()["model_id"] == f"{served.user}/sea@1"
    refused = served.client.post(at, json={"inputs": "a", "parameters": {"typical_p": 0.5}})
    assert refused.json()["error_type"] == "validation", "the path itself speaks TGI too, for a language model"


def test_tools_that_the_template_knows_nothing_of_are_refused_where_the_engine_passes_over_them(
    served: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "answer", (200, {"prompt": "<user>a"}))
    tool = {"type": "function", "function": {"name": "walk"}}
    asked = {"model": "sea", "messages": [{"role": "user", "content": "a"}], "tools": [tool]}
    answer = served.client.post("/v1/chat/completions", json=asked)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tools")
    [(path, _, _)] = Engine.asked
    assert path == "/apply-template", "the chat itself was never asked"
    monkeypatch.setattr(Engine, "answer", (200, {"prompt": "qzname", "choices": []}))
    assert served.client.post("/v1/chat/completions", json=asked).status_code == 200


def test_tgi_is_told_the_adapter_of_the_deployment_and_no_other_one(api: Api, engine: str) -> None:
    register(api, path="model.safetensors")
    assert api.client.put("/v1/deployments/sea", json={"engine": "tgi"}).json()["engine"] == "tgi"
    ready(api, engine, endpoint_model="adapter")
    at = f"/models/{api.user}/sea"
    api.client.post(f"{at}/generate", json={"inputs": "far", "parameters": {"seed": 1}})
    assert Engine.asked.pop()[2]["parameters"] == {"do_sample": False, "seed": 1, "adapter_id": "adapter"}
    api.client.post(at, json={"inputs": "far"})
    assert Engine.asked.pop()[2]["parameters"] == {"do_sample": True, "adapter_id": "adapter"}
    chosen = {"inputs": "far", "parameters": {"adapter_id": "another"}}
    assert api.client.post(f"{at}/generate", json=chosen).status_code == 404
    asked = {"model": "sea", "messages": [{"role": "user", "content": "a"}], "presence_penalty": 1}
    assert api.client.post("/v1/chat/completions", json=asked).status_code == 400
    assert Engine.asked == []


def test_an_engine_of_somebody_elses_needs_an_administrators_word(api: Api, engine: str) -> None:
    wanted = {"external": {"url": engine, "model": "theirs", "key": "their-key"}}
    answer = api.client.put("/v1/deployments/far", json=wanted)
    assert answer.status_code == 422
    assert "EIGENWERK_EXTERNAL_ENGINES" in answer.text
    assert api.client.get("/v1/deployments/far").status_code == 404


def test_an_engine_of_somebody_elses_is_asked_by_the_name_it_knows_and_its_key_is_shown_to_nobody(
    run_api: RunApi, engine: str
) -> None:
    wanted = {"external": {"url": f"{engine}/v1", "model": "theirs", "key": "their-key"}}
    asked = {"model": "far", "messages": [{"role": "user", "content": "a"}], "tools": []}
    with run_api(external_engines=frozenset({engine})) as api:
        answer = api.client.put("/v1/deployments/far", json=wanted)
        assert answer.status_code == 202, answer.text
        shown = answer.json()
        assert (shown["engine"], shown["version"], shown["external"]["url"]) == ("external", None, engine)
        assert api.client.put("/v1/deployments/far", json={**wanted, "model": "sea"}).status_code == 422
        for path in ("/a\r\nX: y", "/a b", "/\u00e9"):
            broken = api.client.put("/v1/deployments/far", json={"external": {"url": engine + path, "model": "theirs"}})
            assert (broken.status_code, "%20" in broken.text) == (422, True)
        ready(api, engine, "far", endpoint_key="their-key", endpoint_model="theirs")
        assert api.client.post("/v1/chat/completions", json=asked).status_code == 200
        _, key, body = Engine.asked.pop()
        assert (key, body["model"], body["tools"]) == ("Bearer their-key", "theirs", [])
        for path in ("/v1/deployments/far", "/v1/deployments", "/v1/models", f"/models/{api.user}/far/info"):
            assert "their-key" not in api.client.get(path).text
        assert api.client.get(f"/models/{api.user}/far/health").status_code == 200
        with api.database.unit_of_work() as work:
            row = work.deployments.find(api.reach(), "far")
            assert row is not None
            row.endpoint = "http://127.0.0.1:1"
        refused = api.client.post("/v1/chat/completions", json=asked)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_not_allowed")
