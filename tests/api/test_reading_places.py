"""Who holds a place for reading: nobody who waits for the object store, or whose client has left; large files few."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import anyio
import httpx
import pytest

from api.datasets import service
from api.errors import ApiError
from api.foreign_files import LARGE_READINGS_MAX, USER_LARGE_READINGS_MAX, Readings
from api.jobs import inspecting
from api.streaming import Received
from corpus.confinement.confinement import Stopped
from storage.objects import ObjectStore, TransferStopped
from tests.api.conftest import PATIENCE_S, SPEC, Api, safetensors

#: Plain text from here on may take more time than any file may.
LARGE_BYTES = 3_000_000


def test_a_preview_takes_its_place_when_the_bytes_are_there(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.push()
    order: list[str] = []
    read, open_range = Readings.read, ObjectStore.open_range

    async def reading(*arguments: Any, **options: Any) -> Any:
        order.append("place")
        return await read(*arguments, **options)

    def opening(*arguments: Any, **options: Any) -> Any:
        order.append("bytes")
        return open_range(*arguments, **options)

    monkeypatch.setattr(Readings, "read", reading)
    monkeypatch.setattr(ObjectStore, "open_range", opening)
    assert api.client.get("/v1/datasets/headlines/versions/1/preview").status_code == 200
    assert order == ["bytes", "place"]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/check", "/v1/jobs/estimate"])
def test_a_check_ends_with_its_client_and_leaves_room_for_others(
    ready: Api, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    began, ended = threading.Event(), threading.Event()

    def endless(*_: Any, should_stop: Any, **__: Any) -> None:
        began.set()
        while not should_stop():
            time.sleep(0.01)
        ended.set()
        raise Stopped

    monkeypatch.setattr(inspecting, "check_confined", endless)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.post, f"{ready.url}{path}", json=SPEC, headers=ready.client.headers, timeout=1.0)
        assert began.wait(PATIENCE_S)
        with pytest.raises(httpx.ReadTimeout):
            asked.result()
    assert ended.wait(PATIENCE_S)
    assert ready.client.get("/v1/jobs").json()["data"] == []


def test_large_tables_of_two_users_leave_room_for_a_small_one_of_a_third(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, release = service.profiled, threading.Event()
    began = threading.Semaphore(0)

    def slow_if_large(parts: Any, file_name: str, table: Any, received: Received, should_stop: Any) -> Any:
        if received.bytes > LARGE_BYTES:
            began.release()
            assert release.wait(60)
        return read(parts, file_name, table, received, should_stop)

    monkeypatch.setattr(service, "profiled", slow_if_large)
    large = b"a,b\n" + b"1," + b"x" * 500_000 + b"\n"
    large *= LARGE_BYTES // len(large) + 1

    def push(token: str, name: str, content: bytes) -> httpx.Response:
        with api.as_user(token) as client:
            return client.put(f"/v1/datasets/{name}?file_name=t.csv", content=content, timeout=60)

    users = [api.new_user(), api.new_user()]
    with ThreadPoolExecutor(2 * USER_LARGE_READINGS_MAX) as pool:
        pushes = [
            pool.submit(push, token, f"large{n}", large) for token in users for n in range(USER_LARGE_READINGS_MAX)
        ]
        for _ in range(LARGE_READINGS_MAX):
            assert began.acquire(timeout=PATIENCE_S)
        try:
            assert push(api.new_user(), "small", b"a,b\n1,2\n").status_code == 201
            assert not began.acquire(blocking=False)
        finally:
            release.set()
        assert {answer.result().status_code for answer in pushes} == {201}


def test_a_place_that_becomes_free_goes_to_whoever_has_none() -> None:
    first, second, third = uuid4(), uuid4(), uuid4()
    done: list[UUID] = []

    async def story() -> None:
        readings = Readings(2, 2)
        releases = [threading.Event() for _ in range(4)]

        async def read(user: UUID, release: threading.Event) -> None:
            await readings.run(user, lambda: release.wait(30))
            done.append(user)

        async with anyio.create_task_group() as tasks:
            for user, release in zip((first, second, first, third), releases, strict=True):
                tasks.start_soon(read, user, release)
                await anyio.sleep(0.01)
            releases[3].set()
            releases[1].set()
            with anyio.fail_after(10):
                while len(done) < 2:
                    await anyio.sleep(0.01)
            releases[0].set()
            releases[2].set()

    anyio.run(story)
    assert done[:2] == [second, third]


def test_whoever_left_while_waiting_holds_nothing() -> None:
    async def story() -> None:
        readings, release = Readings(1, 1), threading.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(readings.run, uuid4(), lambda: release.wait(30))
            await anyio.sleep(0.01)
            with anyio.move_on_after(0.01):
                await readings.run(uuid4(), lambda: None)
            with pytest.raises(ApiError) as refused:
                await readings.run(uuid4(), lambda: None, patience_s=0.01)
            assert refused.value.code == "busy_reading"
            release.set()
        assert await readings.run(uuid4(), lambda: 7) == 7

    anyio.run(story)


@pytest.mark.parametrize("sent", ["table", "file", "complete"])
def test_a_transfer_ends_with_its_client(api: Api, monkeypatch: pytest.MonkeyPatch, sent: str) -> None:
    import_id = api.client.post("/v1/registry/imports", json={"name": "m"}).json()["id"]
    for path, body in (("config.json", b"{}"), ("model.safetensors", safetensors())):
        assert api.client.put(f"/v1/registry/imports/{import_id}/files/{path}", content=body).status_code == 201
    began, ended = threading.Event(), threading.Event()

    def endless(*_: Any, should_stop: Any, **__: Any) -> None:
        began.set()
        while not should_stop():
            time.sleep(0.01)
        ended.set()
        raise TransferStopped

    def endless_piece(*given: Any) -> None:
        endless(should_stop=given[-1])

    # A model's file goes piece by piece, and stops between two.
    monkeypatch.setattr("storage.keeping._keep", endless_piece)
    monkeypatch.setattr(ObjectStore, "download_file" if sent == "complete" else "upload_file", endless)
    method, path = {
        "table": ("PUT", "/v1/datasets/t?file_name=t.csv"),
        "file": ("PUT", f"/v1/registry/imports/{import_id}/files/README.md"),
        "complete": ("POST", f"/v1/registry/imports/{import_id}/complete"),
    }[sent]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(
            httpx.request, method, f"{api.url}{path}", content=b"a,b\n1,2\n", headers=api.client.headers, timeout=2.0
        )
        assert began.wait(PATIENCE_S)
        with pytest.raises(httpx.ReadTimeout):
            asked.result()
    assert ended.wait(PATIENCE_S)
