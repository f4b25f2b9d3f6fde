"""Answers in hand are finished before an engine ends."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from jobspecs.engines import COMPLETIONS
from tests.workers.engines.contenders import KEY, PATIENCE_S, started, write_model
from workers.engines.attendant import Attendant, Order
from workers.engines.interface import EngineState, Measured


class Busy:
    """An engine's HTTP with so much in hand as it is told; the process beside it only waits to be ended."""

    def __init__(self) -> None:
        self.running, self.looks = 0, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.looks += 1
                self.send_response(200)
                self.end_headers()
                self.wfile.write(f"running {outer.running}\nwritten 7\n".encode())

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Said:
    """What the attendant says, in the place of its stdout."""

    def __init__(self) -> None:
        self.statuses: list[dict[str, object]] = []

    def say(self, **status: object) -> None:
        self.statuses.append(status)


@pytest.fixture
def busy() -> Iterator[Busy]:
    engine = Busy()
    yield engine
    engine.server.shutdown()
    engine.server.server_close()


def attended(busy: Busy, said: Said, *, drain_s: float) -> Iterator[Attendant]:
    url = f"http://127.0.0.1:{busy.server.server_port}"
    waiting = [sys.executable, "-c", "import time; time.sleep(600)"]
    order = Order(waiting, {}, url, "", "/health", "/metrics", Measured("", "written", "running"), [], drain_s)
    attendant = Attendant(order, said)  # type: ignore[arg-type]
    attendant._process = subprocess.Popen(waiting)
    try:
        attendant._look()
        yield attendant
    finally:
        attendant._process.kill()
        attendant._process.wait()


def test_an_engine_is_told_to_end_when_it_has_nothing_in_hand_and_its_last_tokens_are_counted(busy: Busy) -> None:
    said = Said()
    for attendant in attended(busy, said, drain_s=120):
        busy.running = 2
        said.statuses.clear()
        attendant._told.clear()
        attendant._drain()
        for _ in range(5):
            attendant._stop_when_idle()
            assert attendant._exit_code() is None
        assert {"state": "served", "prompt_tokens": 0, "generated_tokens": 7} in said.statuses
        busy.running = 0
        attendant._stop_when_idle()
        assert not attendant._told_to_end, "an answer may just be on its way"
        attendant._stop_when_idle()
        assert attendant._told_to_end


def test_answers_that_take_longer_than_they_may_are_not_waited_for(busy: Busy) -> None:
    for attendant in attended(busy, Said(), drain_s=0):
        busy.running = 2
        attendant._drain()
        attendant._stop_when_idle()
        assert attendant._told_to_end


@pytest.mark.parametrize(("name", "tokens"), [("embedded", 120), ("llamacpp", 200)])
def test_an_answer_that_has_begun_is_whole_although_its_engine_is_told_to_end(
    name: str, tokens: int, tmp_path: Path
) -> None:
    with started(name, tmp_path, write_model(name, tmp_path / "model")) as engine:
        engine.await_state(EngineState.ready)
        body = {"model": "alice/tiny@1", "prompt": "the sea", "max_tokens": tokens, "stream": True, "ignore_eos": True}
        if name == "embedded":
            del body["ignore_eos"]
        url, headers = f"{engine.replicas.endpoint}{COMPLETIONS}", {"Authorization": f"Bearer {KEY}"}
        with httpx.stream("POST", url, json=body, headers=headers, timeout=PATIENCE_S) as answer:
            lines = (line.removeprefix("data:").strip() for line in answer.iter_lines() if line.startswith("data:"))
            first = json.loads(next(lines))
            engine.process.terminate()
            rest = list(lines)
    assert first["choices"]
    assert rest[-1] == "[DONE]"
    assert json.loads(rest[-2])["choices"][0]["finish_reason"] in ("length", "stop")
