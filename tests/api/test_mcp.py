"""The platform's tools, as the protocol's own client sees them, by stdio and HTTP, before a real API."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import httpx2
import pytest
import uvicorn
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from eigenwerk.mcp_server.http import make_app
from jobspecs.events import ProgressEvent
from jobspecs.lifecycle import JobState
from tests.api.conftest import SPEC, Api
from tests.api.playing import record

Use = Callable[[Client], Awaitable[Any]]

READING = {
    *("list_jobs", "list_pipelines", "show", "list_models", "show_model", "compare_models", "list_datasets"),
    *("show_dataset", "list_deployments", "describe_kind", "check", "estimate", "watch"),
    *("chat", "classify", "rerank", "embed"),
}
CHANGING = {"submit", "retry", "cancel", "deploy", "undeploy", "set_alias"}


def token_of(api: Api) -> str:
    return str(api.client.headers["Authorization"]).removeprefix("Bearer ")


def by_stdio(api: Api, use: Use, *options: str, token: str | None = None) -> Any:
    """Starts `eigenwerk mcp` as a program does that was told of it."""
    environment = {
        "EIGENWERK_URL": api.url,
        "EIGENWERK_TOKEN": token or token_of(api),
        "PATH": os.environ["PATH"],
    }
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "eigenwerk.cli", "mcp", *options], env=environment
    )

    async def talk() -> Any:
        async with Client(command) as client:
            return await use(client)

    return asyncio.run(talk())


@pytest.fixture(scope="module")
def door(module_api: Api) -> Iterator[str]:
    """Tools by HTTP in front of the API, with those that change something."""
    with serving(module_api.url) as url:
        yield url


@contextmanager
def serving(platform: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        app = make_app(platform, port, allow_writes=True)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            server.should_exit = True
            thread.join(20)


def by_http(url: str, token: str, use: Use) -> Any:
    async def talk() -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            return await use(client)

    return asyncio.run(talk())


async def named(client: Client) -> set[str]:
    return {tool.name for tool in (await client.list_tools()).tools}


def call(name: str, **arguments: Any) -> Use:
    async def use(client: Client) -> Any:
        return await client.call_tool(name, arguments)

    return use


def test_by_stdio_nothing_can_be_changed_until_it_is_allowed_and_the_tools_say_what_they_do(ready: Api) -> None:
    async def use(client: Client) -> Any:
        tools = (await client.list_tools()).tools
        refused = await client.call_tool("submit", {"spec": {**SPEC, "model": "tiny", "dataset": "headlines"}})
        models = await client.call_tool("list_models", {})
        return tools, refused, models

    tools, refused, models = by_stdio(ready, use)
    assert {tool.name for tool in tools} == READING
    assert all(tool.annotations.read_only_hint and tool.description for tool in tools)
    assert refused.is_error and ready.client.get("/v1/jobs").json()["data"] == []
    assert [one["reference"] for one in models.structured_content["models"]] == [f"{ready.user}/tiny@1"]


def test_a_job_is_checked_submitted_watched_and_cancelled(ready: Api) -> None:
    spec = {**SPEC, "model": "tiny", "dataset": "headlines"}
    told: list[tuple[float, float | None, str | None]] = []

    async def noted(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async def use(client: Client) -> Any:
        tools = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}
        checked = await client.call_tool("check", {"spec": spec})
        submitted = await client.call_tool("submit", {"spec": spec, "idempotency_key": "once"})
        again = await client.call_tool("submit", {"spec": spec, "idempotency_key": "once"})
        assert submitted.structured_content["id"] == again.structured_content["id"]
        event = ProgressEvent(stage="train", step=3, steps_total=9)
        await asyncio.to_thread(record, ready, submitted.structured_content, [event])
        watched = await client.call_tool("watch", {"work": SPEC["name"], "wait_s": 1.5}, progress_callback=noted)
        cancelled = await client.call_tool("cancel", {"work": SPEC["name"]})
        return tools, checked, watched, cancelled

    tools, checked, watched, cancelled = by_stdio(ready, use, "--allow-writes")
    assert tools.keys() == READING | CHANGING
    assert tools["undeploy"].destructive_hint and not tools["submit"].read_only_hint
    assert not checked.is_error and not watched.is_error
    assert not watched.structured_content["ended"] and watched.structured_content["progress"]["step"] == 3
    assert (3, 9, "running: train") in told
    assert cancelled.structured_content["state"] == JobState.cancelling


def test_a_token_that_may_only_read_gets_no_tools_that_write_by_stdio_or_http(ready: Api, door: str) -> None:
    reader = ready.new_user("read")
    assert by_stdio(ready, named, "--allow-writes", token=reader) == READING
    assert by_http(door, reader, named) == READING
    assert by_http(door, reader, call("cancel", work="x")).is_error
    assert by_http(door, token_of(ready), named) == READING | CHANGING


def test_by_http_everybody_has_the_rights_of_their_own_token(ready: Api, door: str) -> None:
    mine = by_http(door, token_of(ready), call("list_datasets"))
    assert [one["name"] for one in mine.structured_content["datasets"]] == ["headlines"]
    other = by_http(door, ready.new_user(), call("show_model", model=f"{ready.user}/tiny"))
    assert other.is_error and "tiny" in other.content[0].text


def test_by_http_who_has_no_token_or_comes_from_elsewhere_is_not_let_in(ready: Api, door: str) -> None:
    initialize = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    good = {
        "Authorization": f"Bearer {token_of(ready)}",
        "Accept": "application/json, text/event-stream",
    }

    def status(**headers: str) -> int:
        sent = {name.replace("_", "-"): value for name, value in {**good, **headers}.items()}
        return httpx.post(door, json=initialize, headers=sent).status_code

    assert status() == 200
    assert status(Authorization="") == status(Authorization="Bearer ew_" + "x" * 43) == 401
    assert status(Origin="https://evil.example") == 403
    assert status(Host="evil.example:80") == 421


def test_what_is_wrong_is_told_in_sentences_with_its_field(ready: Api) -> None:
    async def use(client: Client) -> Any:
        spec = {**SPEC, "model": "tiny", "dataset": "headlines"}
        wrong = await client.call_tool("check", {"spec": {**spec, "lable": "mood"}})
        unknown = await client.call_tool("show", {"work": "nothing"})
        return str(wrong.content[0]), str(unknown.content[0]), wrong.is_error and unknown.is_error

    wrong, unknown, are_errors = by_stdio(ready, use)
    assert are_errors
    assert "field lable" in wrong and "Traceback" not in wrong
    assert "You have no job or pipeline nothing." in unknown


def test_a_token_that_opens_nothing_is_said_so_at_once(ready: Api) -> None:
    environment = {"EIGENWERK_URL": ready.url, "EIGENWERK_TOKEN": "ew_" + secrets.token_urlsafe(32)}
    command = [sys.executable, "-m", "eigenwerk.cli", "mcp"]
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and "token" in done.stderr
