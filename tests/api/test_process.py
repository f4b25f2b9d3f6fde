"""`python -m api` as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from deploy.embedded.stack import EmbeddedServices
from tests.api.conftest import PATIENCE_S, Api

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


def test_it_refuses_to_listen_to_the_world_by_accident(api: Api, services: EmbeddedServices, port: int) -> None:
    settings = {**environment(api, services, port), "EIGENWERK_API_HOST": "::"}
    refused = subprocess.run([sys.executable, "-m", "api"], env=settings, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "EIGENWERK_PUBLIC_URL" in refused.stderr
    assert "Traceback" not in refused.stderr
