"""Answers that flow: they end with their token and with a client that takes none of them, and hold up nobody else."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from api import streaming
from jobspecs.manifest import Manifest, ManifestFile
from tests.api.conftest import Api, sha256
from tests.api.flowing import Flow, flowing

ASK = {"model": "stories", "messages": [{"role": "user", "content": "Tell me a story."}], "stream": True}


@pytest.fixture
def flow() -> Iterator[Flow]:
    with flowing() as engine:
        yield engine


def deploy(api: Api, flow: Flow) -> None:
    """Plays the worker: `flow` serves the user's `stories`."""
    file = ManifestFile(path="model.safetensors", bytes=1000, sha256=sha256(flow.endpoint.encode()))
    manifest = Manifest(artifact="model", task="text-generation", files=(file,))
    with api.database.unit_of_work() as work:
        work.models.add_version(api.user_id(), "stories", manifest=manifest, prefix=f"artifacts/{file.sha256}")
    assert api.client.put("/v1/deployments/stories").status_code == 202
    with api.database.unit_of_work() as work:
        row = work.deployments.find(api.reach(), "stories")
        assert row is not None
        row.host, row.state, row.endpoint, row.endpoint_key = "host-1", "ready", flow.endpoint, "key"


@pytest.mark.parametrize(
    ("path", "body", "last"),
    [
        ("/v1/chat/completions", ASK, '"type":"authentication_error"'),
        ("/models/{user}/stories/generate_stream", {"inputs": "x"}, '"error_type": "generation"'),
        ("/v1/responses", {"model": "stories", "input": "x", "stream": True}, "response.failed"),
    ],
)
def test_a_stream_ends_with_its_token_and_says_so(api: Api, flow: Flow, path: str, body: Any, last: str) -> None:
    deploy(api, flow)
    mine = api.client.post("/v1/users/me/tokens", json={"scopes": ["write"]}).json()
    with api.as_user(mine["token"]) as client, client.stream("POST", path.format(user=api.user), json=body) as answer:
        lines = answer.iter_lines()
        assert next(lines)
        with api.client.stream("POST", "/v1/chat/completions", json=ASK) as other:
            others = other.iter_lines()
            assert flow.await_flowing(2)
            assert api.client.delete(f"/v1/users/me/tokens/{mine['id']}").status_code == 204
            rest = list(lines)
            # What was asked with another token goes on.
            assert flow.await_flowing(1) and next(others)
    assert any(last in line for line in rest) and any("revoked" in line for line in rest)


def test_a_watcher_of_a_job_is_told_nothing_more_once_the_token_is_revoked(ready: Api) -> None:
    job = ready.submit()
    mine = ready.client.post("/v1/users/me/tokens", json={"scopes": ["read"]}).json()
    path, headers = f"/v1/jobs/{job['id']}/events", {"Accept": "text/event-stream"}
    with ready.as_user(mine["token"]) as client, client.stream("GET", path, headers=headers) as answer:
        lines = answer.iter_lines()
        assert next(lines)
        assert ready.client.delete(f"/v1/users/me/tokens/{mine['id']}").status_code == 204
        # It has an end, although the job has none, and no `end` is told.
        assert "event: end" not in list(lines)


def slow_reader(api: Api) -> socket.socket:
    """Asks for a stream and takes nothing of it, with as little room for it as can be had."""
    asking = socket.socket()
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    address = urlsplit(api.url)
    asking.connect((address.hostname, address.port))
    request = httpx.Request("POST", f"{api.url}/v1/chat/completions", headers=api.client.headers, json=ASK)
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    asking.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n" + head.encode() + b"\r\n" + request.content)
    return asking


def test_slow_readers_hold_up_nobody_and_what_waits_for_them_is_bounded(api: Api) -> None:
    with flowing(event_bytes=60_000, pause_s=0.0) as flow:
        deploy(api, flow)
        readers = [slow_reader(api) for _ in range(8)]
        try:
            assert flow.await_flowing(8)
            assert all(reader.recv(1) for reader in readers)
            with api.client.stream("POST", "/v1/chat/completions", json=ASK) as answer:
                assert next(answer.iter_bytes())
            assert flow.await_flowing(8)
            sent_bytes = -1
            while sent_bytes != flow.sent_bytes:
                sent_bytes = flow.sent_bytes
                time.sleep(0.3)
            # Less than what the kernel's buffers of two connections may hold.
            assert flow.sent_bytes < 8 * 16_000_000
        finally:
            for reader in readers:
                reader.close()
        assert flow.await_flowing(0)


def test_who_takes_nothing_for_too_long_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SLOW_S", 0.2)
    monkeypatch.setattr(streaming, "SLOW_BYTES_PER_S", 1_000_000)
    with flowing(event_bytes=60_000, pause_s=0.0) as flow:
        deploy(api, flow)
        with slow_reader(api):
            assert flow.await_flowing(1)
            # The engine's row is free, although the client is still there.
            assert flow.await_flowing(0)
