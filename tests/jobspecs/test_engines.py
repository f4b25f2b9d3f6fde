from __future__ import annotations

import pytest
from pydantic import ValidationError

from jobspecs.engines import (
    CHAT,
    COMPLETIONS,
    EMBEDDED,
    ENGINE_KINDS,
    LLAMACPP,
    ExternalEngine,
    Unserved,
    WeightsFormat,
    format_of,
    origin_of,
    task_of,
    what_is_read,
)
from jobspecs.manifest import Manifest, ManifestFile


def manifest(*paths: str, task: str | None = None) -> Manifest:
    files = tuple(ManifestFile(path=path, bytes=1, sha256="0" * 64) for path in paths)
    return Manifest(artifact="model", task=task, files=files)


def test_a_gguf_alone_is_a_language_model_and_beside_safetensors_a_by_product() -> None:
    assert format_of(manifest("model-q4.gguf")) is WeightsFormat.gguf
    assert task_of(manifest("model-q4.gguf", "README.md")) == "text-generation"
    both = manifest("model.safetensors", "model.gguf", task="text-ranking")
    assert (format_of(both), task_of(both)) == (WeightsFormat.safetensors, "text-ranking")
    assert task_of(manifest("model.safetensors")) is None


def test_a_field_that_the_engine_would_pass_over_is_refused_by_its_name() -> None:
    said = {"messages": [], "temperature": 0, "best_of": 4}
    refused = what_is_read(LLAMACPP, CHAT, said)
    assert isinstance(refused, Unserved)
    assert refused.field == "best_of"
    assert "llama.cpp" in refused.message and "say 1" in refused.message
    unknown = what_is_read(LLAMACPP, CHAT, {"temprature": 1})
    assert isinstance(unknown, Unserved)
    assert "no such field" in unknown.message


def test_what_changes_no_answer_is_left_out_and_the_rest_goes_on() -> None:
    asked = {"prompt": "a", "user": "me", "best_of": 1, "suffix": None, "seed": 3}
    assert what_is_read(LLAMACPP, COMPLETIONS, asked) == {"prompt": "a", "seed": 3}


def test_an_engine_that_refuses_by_itself_is_sent_everything() -> None:
    assert what_is_read(EMBEDDED, CHAT, {"anything": 1}) == {"anything": 1}
    assert set(ENGINE_KINDS) >= {"embedded", "llamacpp", "external"}


def test_the_address_of_an_engine_has_no_v1_no_password_and_no_query() -> None:
    engine = ExternalEngine(url="http://10.0.0.5:8000/v1/", model="m", key="secret")
    assert engine.url == "http://10.0.0.5:8000"
    assert "secret" not in repr(engine)
    for url in ("ftp://a", "http://", "http://a:b@c", "http://a/?q=1", "file:///etc/passwd"):
        with pytest.raises(ValidationError):
            ExternalEngine(url=url, model="m")


def test_an_origin_names_its_port() -> None:
    assert origin_of("HTTP://Engine.example/v1") == "http://engine.example:80"
    assert origin_of("https://[::1]/x") == "https://[::1]:443"
