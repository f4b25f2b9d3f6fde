"""What the inference worker and the API rely on, of every engine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobspecs.engines import CHAT, COMPLETIONS, ENGINE_KINDS
from jobspecs.lifecycle import Reason
from tests.workers.engines.contenders import CONTENDERS, KEY, PATIENCE_S, Contender, started, write_model
from tests.workers.inference.processes import arguments_and_variables, is_running
from workers.daemon.process_control import descendants_of
from workers.engines.child import ServingChild
from workers.engines.interface import EngineState
from workers.engines.registry import ENGINES

#: The embedded engine starts in seconds: its worker's tests end it in all these ways (`tests/workers/inference`).
ATTENDED = sorted(set(CONTENDERS) - {"embedded"})
CONVERSATION = [{"role": "user", "content": "Tell me."}]


@pytest.fixture(scope="module", params=sorted(CONTENDERS))
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contender]:
    folder = tmp_path_factory.mktemp("engine")
    with started(request.param, folder, write_model(request.param, folder / "model")) as contender:
        contender.await_state(EngineState.ready)
        yield contender


def family(pid: int) -> list[int]:
    return [*descendants_of(pid), pid]


def await_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while left := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.02)


def test_every_engine_but_those_elsewhere_is_tried_here() -> None:
    assert set(ENGINES) == set(ENGINE_KINDS)
    assert set(CONTENDERS) == set(ENGINES) - {"external"}


def test_it_says_what_it_is(engine: Contender) -> None:
    installed = engine.engine.installed()
    assert installed is not None
    assert installed.version


def test_it_answers_chats_and_completions_in_openais_shapes(engine: Contender) -> None:
    chat = engine.ask(CHAT, {"messages": CONVERSATION, "max_tokens": 4, "temperature": 0}).json()
    (choice,) = chat["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] in ("length", "stop")
    assert 1 <= chat["usage"]["completion_tokens"] <= 4
    text = engine.ask(COMPLETIONS, {"prompt": "the sea", "max_tokens": 4, "temperature": 0}).json()
    assert isinstance(text["choices"][0]["text"], str)
    assert text["usage"]["prompt_tokens"] > 0


def test_a_stream_is_the_same_answer_in_pieces_and_ends_with_done(engine: Contender) -> None:
    body: dict[str, Any] = {"prompt": "the sea", "max_tokens": 6, "temperature": 0}
    whole = engine.ask(COMPLETIONS, body).json()["choices"][0]["text"]
    streamed = engine.ask(COMPLETIONS, {**body, "stream": True})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data:").strip() for line in streamed.text.splitlines() if line.startswith("data:")]
    assert events.pop() == "[DONE]"
    pieces = [choice["text"] for event in events for choice in json.loads(event)["choices"]]
    assert "".join(pieces) == whole


def test_a_greedy_answer_ends_before_a_stop_string(engine: Contender) -> None:
    body: dict[str, Any] = {"prompt": "the sea", "max_tokens": 12, "temperature": 0}
    whole = engine.ask(COMPLETIONS, body).json()["choices"][0]["text"]
    stop = next((char for char in whole[1:] if char.isascii() and char.isprintable()), None)
    assert stop is not None, whole
    choice = engine.ask(COMPLETIONS, {**body, "stop": [stop]}).json()["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (whole.partition(stop)[0], "stop")


def test_a_prompt_longer_than_the_context_is_refused_as_the_api_knows_it(engine: Contender) -> None:
    answer = engine.ask(COMPLETIONS, {"prompt": "sea " * 2000, "max_tokens": 4})
    assert answer.status_code in (400, 422)
    signs = (*ENGINE_KINDS[engine.name].too_long, "context_length_exceeded")
    assert any(sign in answer.text for sign in signs), answer.text


def test_without_its_key_it_answers_nothing_but_health(engine: Contender) -> None:
    assert engine.ask("/health", key="another").status_code == 200
    for path, body in ((CHAT, {"messages": CONVERSATION}), (COMPLETIONS, {"prompt": "x", "max_tokens": 1})):
        for wrong in ("another", KEY[:-1]):
            assert engine.ask(path, body, key=wrong).status_code == 401


def test_its_key_stands_on_no_command_line(engine: Contender) -> None:
    for pid in family(engine.process.pid):
        arguments, variables = arguments_and_variables(pid)
        assert not any(KEY in argument for argument in arguments)
        assert not any("EIGENWERK_S3" in name or "DATABASE" in name for name in variables)


def test_it_tells_what_has_gone_through_it(engine: Contender) -> None:
    before = engine.process.tokens()
    engine.ask(COMPLETIONS, {"prompt": "how many were these", "max_tokens": 5, "temperature": 0})
    deadline = time.monotonic() + PATIENCE_S
    while engine.process.tokens().generated < before.generated + 5:
        assert time.monotonic() < deadline, (before, engine.process.tokens())
        engine.process.state()
        time.sleep(0.05)
    assert engine.process.tokens().prompt > before.prompt
    assert engine.process.load().running >= 0


@pytest.mark.parametrize("name", ATTENDED)
def test_a_damaged_file_is_refused_before_it_is_read(name: str, tmp_path: Path) -> None:
    manifest = write_model(name, tmp_path / "model")
    weights = next(path for path in (tmp_path / "model").iterdir() if path.suffix in (".gguf", ".safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with started(name, tmp_path, manifest) as contender:
        deadline = time.monotonic() + PATIENCE_S
        while contender.process.state() is not EngineState.exited:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        failure = contender.process.failure()
        assert failure is not None
        assert failure.reason is Reason.corrupt_artifact
        assert weights.name in failure.message


@pytest.mark.parametrize("name", ATTENDED)
@pytest.mark.parametrize("how", ["terminate", "kill", "the worker dies"])
def test_nothing_is_left_of_it_when_it_ends(name: str, how: str, tmp_path: Path) -> None:
    with started(name, tmp_path, write_model(name, tmp_path / "model")) as contender:
        contender.await_state(EngineState.ready)
        process = contender.process
        pids = family(process.pid)
        assert isinstance(process, ServingChild)
        if how == "terminate":
            process.terminate()
        elif how == "kill":
            process.kill()
        else:
            process._orders.close()
        while process.state() is not EngineState.exited:
            time.sleep(0.02)
        await_gone(pids)
