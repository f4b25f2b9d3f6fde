"""`python -m api` as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from deploy.embedded.stack import EmbeddedServices
from jobspecs.manifest import Manifest, ManifestFile
from tests.api.conftest import PATIENCE_S, Api, sha256

#: Seconds that a start may take on a busy machine.
START_S = 60.0


def environment(api: Api, services: EmbeddedServices, port: int) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        **services.environment(),
        "EIGENWERK_DATABASE_URL": api.settings.storage.database_url,
        "EIGENWERK_API_PORT": str(port),
    }


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number: int = listener.getsockname()[1]
        return number


@pytest.fixture
def process(api: Api, services: EmbeddedServices, port: int) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(
        [sys.executable, "-m", "api"], env=environment(api, services, port), stderr=subprocess.DEVNULL
    )
    yield started
    started.kill()
    started.wait()


def wait_until_ready(url: str) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        try:
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the API did not become ready")


def test_it_serves_and_ends_cleanly_though_somebody_watches(
    ready: Api, process: subprocess.Popen[bytes], port: int
) -> None:
    job = ready.submit()
    token = ready.client.post("/v1/users/me/tokens", json={"scopes": ["read"]}).json()["token"]
    url = f"http://127.0.0.1:{port}"
    wait_until_ready(url)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.stream("GET", f"{url}/v1/jobs/{job['id']}/events", headers=headers, trust_env=False) as answer:
        lines = answer.iter_lines()
        assert any(line == "event: state" for line in lines)
        process.send_signal(signal.SIGTERM)
        assert "event: end" not in list(lines)
    assert process.wait(timeout=PATIENCE_S) == 0


@pytest.fixture
def endless(api: Api) -> Iterator[Api]:
    """A deployment `stories` whose engine sends one event, and then nothing."""
    file = ManifestFile(path="model.safetensors", bytes=1000, sha256=sha256(b""))
    manifest = Manifest(artifact="model", task="text-generation", files=(file,))
    with api.database.unit_of_work() as work:
        work.models.add_version(api.user_id(), "stories", manifest=manifest, prefix="artifacts/1")
    assert api.client.put("/v1/deployments/stories").status_code == 202
    event = b'data: {"choices": [{"index": 0, "delta": {"content": "Once"}}]}\n\n'

    def answer() -> None:
        with listener.accept()[0] as connection:
            connection.recv(65536)
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            connection.sendall(head + b"%x\r\n%b\r\n" % (len(event), event))
            with suppress(ConnectionError):
                while connection.recv(65536):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        with api.database.unit_of_work() as work:
            row = work.deployments.find(api.reach(), "stories")
            assert row is not None
            row.host, row.state, row.endpoint_key = "host-1", "ready", "key"
            row.endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=answer)
        thread.start()
        yield api
        thread.join(timeout=PATIENCE_S)


def test_an_answer_that_outlasts_the_end_of_the_api_says_that_it_is_cut(
    endless: Api, services: EmbeddedServices, port: int
) -> None:
    settings = {**environment(endless, services, port), "EIGENWERK_DRAIN_S": "1"}
    started = subprocess.Popen([sys.executable, "-m", "api"], env=settings, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url)
        asked = {"model": "stories", "messages": [{"role": "user", "content": "x"}], "stream": True}
        with endless.client.stream("POST", f"{url}/v1/chat/completions", json=asked) as answer:
            lines = answer.iter_lines()
            assert "Once" in next(lines)
            started.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert "API was stopped in the middle" in rest[0] and rest[-1] == "data: [DONE]"
        assert started.wait(timeout=PATIENCE_S) == 0
    finally:
        started.kill()
        started.wait()


def test_it_refuses_to_listen_to_the_world_by_accident(api: Api, services: EmbeddedServices, port: int) -> None:
    settings = {**environment(api, services, port), "EIGENWERK_API_HOST": "::"}
    refused = subprocess.run([sys.executable, "-m", "api"], env=settings, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "EIGENWERK_PUBLIC_URL" in refused.stderr
    assert "Traceback" not in refused.stderr
