"""Talking with a language model, from Python and from the command line."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eigenwerk import Client, EigenwerkError
from tests.client.chatting import WORDS, chat_completion, stream_of
from tests.client.conftest import Outcome
from tests.client.documents import JOB_ID, event, job, model_version
from tests.client.stub import StubPlatform

Run = Callable[..., Outcome]
ASK = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def model(platform: StubPlatform) -> StubPlatform:
    platform.answers["POST /v1/chat/completions"] = chat_completion
    return platform


def asked(platform: StubPlatform) -> Any:
    return json.loads(platform.requests[-1].body)


def test_the_client_chats_at_once_and_in_pieces(model: StubPlatform) -> None:
    with Client(model.url, "ew_test") as client:
        answer = client.chat("smollm2", ASK, max_tokens=5)
        assert (answer.text, answer.choices[0].finish_reason) == ("".join(WORDS), "stop")
        assert asked(model) == {"model": "smollm2", "messages": ASK, "max_tokens": 5}
        assert tuple(client.stream_chat("smollm2", ASK, seed=1)) == WORDS
        assert asked(model) == {"model": "smollm2", "messages": ASK, "seed": 1, "stream": True}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (stream_of({"error": {"message": "The model failed."}}), "The model failed"),
        (stream_of({"choices": [{"delta": {"content": "half"}}]}), "broke off"),
        (stream_of("nonsense"), "not one of a language model"),
    ],
)
def test_a_stream_that_goes_wrong_raises(platform: StubPlatform, body: bytes, words: str) -> None:
    platform.answers["POST /v1/chat/completions"] = (200, body)
    with Client(platform.url, "ew_test") as client, pytest.raises(EigenwerkError, match=words):
        list(client.stream_chat("smollm2", ASK))


def test_a_message_is_answered_without_what_could_steer_the_terminal(model: StubPlatform, run: Run) -> None:
    outcome = run("chat", "smollm2", "Hello", "--system", "Be kind.", "--temperature", "0", "--max-tokens", "9")
    assert (outcome.code, outcome.out) == (0, "Good morning,\n�[31mAda.\n")
    assert asked(model)["messages"][0] == {"role": "system", "content": "Be kind."}
    assert (asked(model)["temperature"], asked(model)["max_tokens"]) == (0, 9)


def test_json_is_the_whole_answer(model: StubPlatform, run: Run) -> None:
    document = json.loads(run("chat", "smollm2", "Hello", "--json").out)
    assert document["usage"] == {"completion_tokens": 3}


def test_a_dialogue_remembers_what_was_said(model: StubPlatform, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["Hello", "", "And you?"])

    def type_in(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(builtins, "input", type_in)
    assert run("chat", "smollm2").code == 0
    assert [message["role"] for message in asked(model)["messages"]] == ["user", "assistant", "user"]


def test_an_error_is_one_line_with_the_reason(platform: StubPlatform, run: Run) -> None:
    outcome = run("chat", "absent", "Hello")
    assert outcome.code == 1
    assert outcome.err.startswith("error: ")


def test_a_gguf_is_imported_and_then_converted(platform: StubPlatform, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    file.write_bytes(b"GGUF")
    made = {**model_version({"model.safetensors": b"w"}, version=2), "name": "tiny", "reference": "admin/tiny@2"}
    raw = {**model_version({"tiny.gguf": b"GGUF"}), "name": "tiny"}
    done = job("succeeded")
    done["result"] = {**done["result"], "model": "admin/tiny@2", "name": "tiny", "version": 2}
    end = event("1-1", "state", state="succeeded") + event("1-2", "end")
    platform.answers |= {
        "POST /v1/registry/imports": (201, {"id": "i1", "name": "tiny"}),
        "PUT /v1/registry/imports/i1/files/tiny.gguf": (201, {}),
        "POST /v1/registry/imports/i1/complete": (201, raw),
        "POST /v1/jobs": (201, job()),
        f"GET /v1/jobs/{JOB_ID}/events": (200, end.encode()),
        f"GET /v1/jobs/{JOB_ID}": (200, done),
        "GET /v1/registry/models/admin/tiny/versions/2": (200, made),
    }
    outcome = run("models", "import", str(file), "--name", "tiny")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("tiny@1  1 files")
    assert outcome.out.rstrip().endswith("tiny@2  1 files  1 B")
    [submitted] = [request for request in platform.requests if request.path == "/v1/jobs"]
    assert json.loads(submitted.body) == {"kind": "import-model", "name": "tiny", "model": "tiny@1"}
    assert json.loads(run("models", "import", str(file), "--name", "tiny", "--json").out)["version"] == 2
    assert run("models", "import", str(file), "--name", "tiny", "--no-convert").out.startswith("tiny@1")
