"""What answers call the model: as it was asked for, whichever engine serves it; and bodies that name none."""

from __future__ import annotations

from typing import Any

import pytest

from jobspecs.engines import EMBEDDED, ENGINE_KINDS, TGI_MODEL
from tests.api.conftest import Api
from tests.api.inference.test_engines import Engine, engine, ready, register

__all__ = ["engine"]

#: Engine -> what its process calls the model; answers name it so.
OWN_NAMES = {"llamacpp": None, "vllm": "ada/sea@1", "tgi": TGI_MODEL}


@pytest.fixture(params=sorted(OWN_NAMES))
def served(request: pytest.FixtureRequest, api: Api, engine: str) -> Api:
    kind = ENGINE_KINDS[request.param]
    register(api, path="sea.gguf" if kind.name == "llamacpp" else "model.safetensors")
    assert api.client.put("/v1/deployments/sea", json={"engine": kind.name}).status_code == 202
    ready(api, engine, endpoint_model=OWN_NAMES[kind.name])
    return api


def test_every_engine_is_tried_but_the_one_that_says_it_itself_and_the_one_elsewhere() -> None:
    assert {*OWN_NAMES, EMBEDDED.name, "external"} == set(ENGINE_KINDS)


def test_answers_call_the_model_as_the_request_did(served: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    said = 'He said "model": "x"\\'
    document = {"model": "/models/sea-q4.gguf", "choices": [{"index": 0, "text": said}], "usage": {"total_tokens": 2}}
    monkeypatch.setattr(Engine, "answer", (200, document))
    chunks = [b'{"model" : "a\\"b", "choices": []}', b'{"choices": [], "model":"other"}', b"[DONE]"]
    monkeypatch.setattr(Engine, "chunks", chunks)
    whole = f"{served.user}/sea"
    for path, asked, named in (
        ("/v1", "sea", "sea"),
        ("/v1", whole, whole),
        (f"/models/{whole}/v1", "tgi", whole),
        (f"/models/{whole}/v1", None, whole),
    ):
        body: dict[str, Any] = {"prompt": "far"} | ({"model": asked} if asked else {})
        answer = served.client.post(f"{path}/completions", json=body).json()
        assert (answer["model"], answer["choices"][0]["text"]) == (named, said)
        stream = served.client.post(f"{path}/completions", json={**body, "stream": True}).text
        assert stream.count(f'"model":"{named}"') == 2
        assert stream.count('"model"') == 2
        chat = {**body, "messages": [{"role": "user", "content": "a"}]}
        del chat["prompt"]
        assert served.client.post(f"{path}/chat/completions", json=chat).json()["model"] == named


def test_a_body_that_is_no_object_is_refused(served: Api) -> None:
    for path in ("", "/", "/generate", "/v1/completions", "/v1/chat/completions"):
        for body in ([], ["a"], "a", None):
            answer = served.client.post(f"/models/{served.user}/sea{path}", json=body)
            assert answer.status_code in (400, 422), (path, body, answer.text)
    assert Engine.asked == []
