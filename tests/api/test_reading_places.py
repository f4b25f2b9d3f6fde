"""Who holds a place for reading: nobody who waits for the object store, and nobody whose client has left."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from api.foreign_files import Readings
from api.jobs import inspecting
from corpus.confinement.confinement import Stopped
from storage.objects import ObjectStore
from tests.api.conftest import SPEC, Api


def test_a_preview_takes_its_place_when_the_bytes_are_there(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.push()
    order: list[str] = []
    read, open_range = Readings.read, ObjectStore.open_range

    async def reading(*arguments: Any) -> Any:
        order.append("place")
        return await read(*arguments)

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
        assert began.wait(10)
        with pytest.raises(httpx.ReadTimeout):
            asked.result()
    assert ended.wait(10)
    assert ready.client.get("/v1/jobs").json()["data"] == []
