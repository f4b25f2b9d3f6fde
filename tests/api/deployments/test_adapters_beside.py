"""Adapters that a deployment serves beside its model: what may be, and how requests find them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jobspecs.engines import EMBEDDED, TGI, VLLM, EngineKind
from jobspecs.manifest import Manifest, ManifestFile, ModelOrigin
from tests.api.conftest import Api, sha256
from tests.api.standing_in import Engine, ready, standing_in

BASE = Manifest(
    artifact="model",
    task="text-generation",
    files=(ManifestFile(path="model.safetensors", bytes=10**6, sha256=sha256(b"base")),),
)


def register_adapter(api: Api, name: str, base: ModelOrigin | None, content: str = "") -> None:
    file = ManifestFile(path="adapter_model.safetensors", bytes=50_000, sha256=sha256(f"{name}{content}".encode()))
    manifest = Manifest(artifact="model", task="text-generation", base=base, files=(file,))
    with api.database.unit_of_work() as work:
        work.models.add_version(api.user_id(), name, manifest=manifest, prefix=f"artifacts/{name}{content}")


@pytest.fixture
def registered(api: Api) -> Api:
    """A base with two adapters, one of them in two versions, and what is no adapter of it."""
    with api.database.unit_of_work() as work:
        work.models.add_version(api.user_id(), "base", manifest=BASE, prefix="artifacts/base")
    own = ModelOrigin(reference=f"{api.user}/base@1", digest=BASE.digest)
    for name, content in (("titles", "first"), ("titles", "second"), ("notes", "")):
        register_adapter(api, name, own, content)
    register_adapter(api, "stranger", ModelOrigin(reference="bob/other@1", digest=sha256(b"other")))
    register_adapter(api, "whole", None)
    return api


@pytest.fixture
def engine() -> Iterator[Engine]:
    with standing_in() as engine:
        yield engine


def deploy(api: Api, *adapters: str, name: str = "base", **more: Any) -> Any:
    return api.client.put(f"/v1/deployments/{name}", json={"adapters": list(adapters), **more})


def test_a_deployment_serves_adapters_of_its_model_and_reckons_with_their_memory(registered: Api) -> None:
    alone = deploy(registered).json()
    beside = deploy(registered, "titles@1", f"{registered.user}/notes").json()
    assert (alone["adapters"], beside["engine"]) == ([], "embedded")
    assert sorted(beside["adapters"]) == [f"{registered.user}/notes@1", f"{registered.user}/titles@1"]
    assert beside["memory_bytes"] - alone["memory_bytes"] == 2 * 2 * 50_000
    assert "adapters over one base" in beside["engine_reason"]
    again = deploy(registered, "notes@1", "titles@1").json()
    assert again["updated_at"] == beside["updated_at"], "nothing has changed"
    deletion = registered.client.delete(f"/v1/registry/models/{registered.user}/titles/versions/1")
    assert deletion.status_code == 409
    assert "the deployment base serves it" in deletion.text
    assert registered.client.delete(f"/v1/registry/models/{registered.user}/titles/versions/2").status_code < 300
    assert registered.client.delete("/v1/deployments/base").status_code == 204


@pytest.mark.parametrize(
    ("adapters", "more", "field", "words"),
    [
        (["stranger"], {}, "adapters[0]", "an adapter of bob/other@1"),
        (["titles", "whole"], {}, "adapters[1]", "no adapter"),
        (["ghost"], {}, "adapters[0]", "no model ghost"),
        (["titles"], {"model": "notes"}, "adapters[0]", "an adapter itself"),
    ],
)
def test_what_is_no_adapter_of_the_model_is_refused_with_the_reason(
    registered: Api, adapters: list[str], more: dict[str, Any], field: str, words: str
) -> None:
    refused = deploy(registered, *adapters, **more)
    assert refused.status_code == 422
    assert words in refused.text
    assert field in refused.text
    assert registered.client.get("/v1/deployments/base").status_code == 404


def test_requests_find_an_adapter_by_its_name_and_never_get_the_base_in_its_place(
    registered: Api, engine: Engine
) -> None:
    client, user = registered.client, registered.user
    assert deploy(registered, "titles@1", "titles@2", "notes").status_code == 202
    assert client.post("/v1/completions", json={"model": f"{user}/notes", "prompt": "a"}).status_code == 503
    ready(
        registered,
        engine,
        "base",
        EMBEDDED.told("", [f"{user}/{name}" for name in ("titles@1", "titles@2", "notes@1")]),
    )

    def asked(path: str, body: Any) -> Any:
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return engine.body

    for name, adapter in {"titles": 2, f"{user}/titles": 2, f"{user}/titles@1": 1}.items():
        body = asked("/v1/completions", {"model": name, "prompt": "a"})
        assert body["adapter_id"] == f"{user}/titles@{adapter}"
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    assert asked("/v1/chat/completions", {**chat, "model": "notes"})["adapter_id"] == f"{user}/notes@1"
    assert "adapter_id" not in asked("/v1/chat/completions", {**chat, "model": "base"})
    # The engine itself answers for what it has, or has not.
    assert asked("/v1/chat/completions", {**chat, "model": "base", "adapter_id": "notes"})["adapter_id"] == "notes"
    generated = asked(f"/models/{user}/notes/generate", {"inputs": "a"})
    assert generated["parameters"] == {"do_sample": True, "adapter_id": f"{user}/notes@1"}
    for body in ({"model": f"{user}/titles@3"}, {"model": "stranger"}, {"model": "notes", "adapter_id": "titles"}):
        assert client.post("/v1/chat/completions", json={**chat, **body}).status_code == 404
    other = {"inputs": "a", "parameters": {"adapter_id": "titles"}}
    assert client.post(f"/models/{user}/notes/generate", json=other).status_code == 404
    listed = {model["id"]: model["root"] for model in client.get("/v1/models").json()["data"]}
    assert listed["base"] == f"{user}/base@1"
    assert listed[f"{user}/notes"] == f"{user}/notes@1"
    assert client.get(f"/v1/models/{user}/notes").json()["root"] == f"{user}/notes@1"


def test_a_gguf_takes_no_registered_adapters_and_the_reason_is_told(registered: Api) -> None:
    file = ManifestFile(path="base-q4.gguf", bytes=10**6, sha256=sha256(b"gguf"))
    manifest = Manifest(artifact="model", files=(file,))
    with registered.database.unit_of_work() as work:
        work.models.add_version(registered.user_id(), "small", manifest=manifest, prefix="artifacts/small")
    register_adapter(
        registered, "of-small", ModelOrigin(reference=f"{registered.user}/small@1", digest=manifest.digest)
    )
    refused = deploy(registered, "of-small", name="small")
    assert refused.status_code == 422
    assert "adapters in GGUF only" in refused.text
    assert registered.client.get("/v1/deployments/small").status_code == 404


@pytest.mark.parametrize(("kind", "base"), [(VLLM, None), (TGI, "tgi")])
def test_engines_of_others_are_asked_for_an_adapter_by_the_name_that_they_were_given(
    registered: Api, engine: Engine, kind: EngineKind, base: str | None
) -> None:
    client, user = registered.client, registered.user
    assert deploy(registered, "titles@1", "notes", engine=kind.name).status_code == 202
    base = base or f"{user}/base@1"
    had = [f"{user}/notes@1", f"{user}/titles@1"]
    ready(registered, engine, "base", kind.told(base, had))

    def asked(path: str, body: Any) -> Any:
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return engine.body

    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    notes = kind.adapter_name(had[0])
    for body in (
        {"model": "notes"},
        {"model": had[0]},
        {"model": "base", "adapter_id": "notes"},
        {"model": "base", "adapter_id": had[0]},
        {"model": "notes", "adapter_id": had[0]},
    ):
        assert asked("/v1/chat/completions", {**chat, **body}) == {**chat, "model": notes}
    assert asked("/v1/chat/completions", {**chat, "model": "base"}) == {**chat, "model": base}
    for body in ({"model": "base", "adapter_id": "ghost"}, {"model": "notes", "adapter_id": "titles"}):
        answer = client.post("/v1/chat/completions", json={**chat, **body})
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "adapter_id")
    unknown = {"inputs": "a", "parameters": {"adapter_id": "ghost"}}
    engine.body = None
    for path in ("/generate", "/generate_stream", ""):
        assert client.post(f"/models/{user}/base{path}", json=unknown).status_code == 404
    assert engine.body is None, "it was never asked"


def test_tgi_is_told_the_adapter_among_its_parameters_and_the_base_by_none(registered: Api, engine: Engine) -> None:
    client, user = registered.client, registered.user
    assert deploy(registered, "notes", engine="tgi").status_code == 202
    ready(registered, engine, "base", TGI.told("tgi", [f"{user}/notes@1"]))
    name = f"{user}/notes:1"
    for path, body, sent in (
        ("notes", {"inputs": "a"}, {"do_sample": True, "adapter_id": name}),
        ("base", {"inputs": "a", "parameters": {"adapter_id": "notes"}}, {"do_sample": False, "adapter_id": name}),
        ("base", {"inputs": "a", "parameters": {"seed": 1}}, {"seed": 1}),
    ):
        for route in ("/generate", ""):
            assert client.post(f"/models/{user}/{path}{route}", json=body).status_code == 200
            assert engine.body["parameters"] == sent


def test_generate_is_translated_for_an_adapter_on_vllm(registered: Api, engine: Engine) -> None:
    user = registered.user
    assert deploy(registered, "notes", engine="vllm").status_code == 202
    ready(registered, engine, "base", VLLM.told(f"{user}/base@1", [f"{user}/notes@1"]))
    asked = {"inputs": "a", "parameters": {"adapter_id": "notes", "max_new_tokens": 2}}
    registered.client.post(f"/models/{user}/base/generate", json=asked)
    assert engine.body["model"] == f"{user}/notes@1"
    assert "adapter_id" not in engine.body


@pytest.mark.parametrize("told", [None, "tgi", "tgi\nbob/other:1"])
def test_an_engine_that_has_not_got_the_adapter_yet_is_not_asked_for_it(
    registered: Api, engine: Engine, told: str | None
) -> None:
    """The engines of the former adapters go on while others start, and TGI would answer as the base."""
    assert deploy(registered, "notes", engine="tgi").status_code == 202
    ready(registered, engine, "base", told)
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    answer = registered.client.post("/v1/chat/completions", json={**chat, "model": "notes"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "deployment_not_ready")
    answer = registered.client.post("/v1/chat/completions", json={**chat, "model": "base", "adapter_id": "notes"})
    assert answer.status_code == 404
    assert deploy(registered, "notes").json()["engine"] == "embedded"
    ready(registered, engine, "base", "tgi")
    for body in ({"model": "notes"}, {"model": "base", "adapter_id": "notes"}):
        assert registered.client.post("/v1/chat/completions", json={**chat, **body}).status_code == 503
    assert engine.body is None, "it was never asked"


def test_requests_for_an_adapter_wait_until_the_engines_have_loaded_it(registered: Api, engine: Engine) -> None:
    client, user = registered.client, registered.user
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    assert deploy(registered, "titles@1").status_code == 202
    ready(registered, engine, "base", EMBEDDED.told("", [f"{user}/titles@1"]))
    assert deploy(registered, "titles@1", "notes").json()["state"] == "pending"
    by_id = client.post("/v1/chat/completions", json={**chat, "model": "base", "adapter_id": "notes"})
    assert (by_id.status_code, by_id.headers["Retry-After"]) == (503, "2")
    for body in ({"model": "titles"}, {"model": "base"}, {"model": "base", "adapter_id": "titles"}):
        assert client.post("/v1/chat/completions", json={**chat, **body}).status_code == 200
    with ThreadPoolExecutor(4) as pool:
        asked = {**chat, "model": "notes"}
        asking = [pool.submit(client.post, "/v1/chat/completions", json=asked) for _ in range(4)]
        time.sleep(0.5)
        assert not any(one.done() for one in asking)
        ready(registered, engine, "base", EMBEDDED.told("", [f"{user}/titles@1", f"{user}/notes@1"]))
        assert [one.result().status_code for one in asking] == [200] * 4
    assert engine.body["adapter_id"] == f"{user}/notes@1"


def test_requests_for_an_adapter_that_no_engine_takes_wait_for_nothing(registered: Api, engine: Engine) -> None:
    assert deploy(registered, "titles@1").status_code == 202
    ready(registered, engine, "base", EMBEDDED.told("", [f"{registered.user}/titles@1"]))
    assert deploy(registered, "titles@1", "notes").status_code == 202
    with ThreadPoolExecutor(1) as pool:
        asked = {"messages": [{"role": "user", "content": "Hi"}], "model": "notes"}
        asking = pool.submit(registered.client.post, "/v1/chat/completions", json=asked)
        time.sleep(0.3)
        with registered.database.unit_of_work() as work:
            row = work.deployments.find(registered.reach(), "base")
            assert row is not None
            row.state, row.reason, row.message = "failed", "invalid_model", "The engine does not take it."
        answer = asking.result()
    assert (answer.status_code, "does not take it" in answer.text) == (503, True)
