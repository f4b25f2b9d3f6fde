"""An object store that accepts connections and never answers: whoever needs it waits a while, nobody else does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import httpx
import pytest

from api.errors import ApiError
from api.parts import Parts
from api.pools import Pool
from api.registry import importing
from api.settings import ApiSettings
from storage.objects import ObjectSettings, ObjectStore, ObjectStoreUnavailable, TransferStopped
from tests.api.conftest import SPEC, Api, RunApi, safetensors

SUBMITS = 40
#: What a quiet API needs a hundredth of, on a machine that may be busy with something else.
PATIENCE_S = 5.0


@contextmanager
def silent_server() -> Iterator[str]:
    """Its kernel accepts; nobody reads."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_routes_that_need_only_the_database_answer_while_the_object_store_hangs(run_api: RunApi, ready: Api) -> None:
    with silent_server() as endpoint:
        storage = replace(ready.settings.storage, s3_endpoint=endpoint)
        token = ready.client.headers["Authorization"].removeprefix("Bearer ")
        with run_api(storage=storage, check_seconds_max=4.0) as hanging, ThreadPoolExecutor(SUBMITS) as pool:
            started = threading.Barrier(SUBMITS + 1)

            def submit(number: int) -> httpx.Response:
                with hanging.as_user(token) as client:
                    started.wait()
                    return client.post("/v1/jobs", json={**SPEC, "name": f"job-{number}"}, timeout=60)

            answers = [pool.submit(submit, number) for number in range(SUBMITS)]
            started.wait()
            asked, slowest_s = 0, 0.0
            while not all(answer.done() for answer in answers) and asked < 20:
                for path in ("/healthz", "/v1/users/me", "/v1/jobs"):
                    began_s = time.monotonic()
                    assert hanging.client.get(path).status_code == 200
                    slowest_s = max(slowest_s, time.monotonic() - began_s)
                asked += 1
            assert asked > 1 and slowest_s < PATIENCE_S
            for answer in (future.result() for future in answers):
                # Queued without a look at the data, which the job takes later; or refused for now.
                assert answer.status_code in (201, 503), answer.text
                if answer.status_code == 503:
                    assert answer.json()["error"]["code"] == "object_store_busy"
                    assert int(answer.headers["Retry-After"]) > 0
            assert {future.result().status_code for future in answers} >= {201}


def test_a_full_pool_refuses_after_its_patience_and_serves_again() -> None:
    async def story() -> None:
        pool = Pool("The store", threads=1, patience_s=0.05)
        release = threading.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.run, lambda: release.wait(30))
            await anyio.sleep(0.01)
            with pytest.raises(ApiError) as refused:
                await pool.run(lambda: None)
            assert (refused.value.status_code, refused.value.code) == (503, "object_store_busy")
            release.set()
        assert await pool.run(lambda: 7) == 7

    anyio.run(story)


def test_an_upload_to_a_store_that_hangs_is_not_tried_again_once_the_process_shall_end(tmp_path: Path) -> None:
    file, asked = tmp_path / "file", iter([False, *[True] * 9])
    file.write_bytes(b"a,b")
    with silent_server() as endpoint:
        store = ObjectStore(ObjectSettings(endpoint, "key", "secret", "bucket", read_timeout_s=0.2, attempts=1000))
        with pytest.raises(TransferStopped):
            store.upload_file(file, "datasets/a", should_stop=lambda: next(asked))
        store.close()


def test_a_push_is_stopped_with_its_server(run_api: RunApi, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Parts] = []
    make = Parts.make

    def kept(settings: ApiSettings) -> Parts:
        made.append(make(settings))
        return made[-1]

    monkeypatch.setattr(Parts, "make", kept)
    with run_api() as api:
        made[-1].stopping.set()
        answer = api.client.put("/v1/datasets/late", params={"file_name": "late.csv"}, content=b"a,b\n1,2\n")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopping"), answer.text


def test_an_import_is_not_completed_for_ever(run_api: RunApi, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "_LOOKUP_SECONDS_MAX", 0.3)
    import_id = api.client.post("/v1/registry/imports", json={"name": "m"}).json()["id"]
    for path, body in (("config.json", b"{}"), ("model.safetensors", safetensors())):
        assert api.client.put(f"/v1/registry/imports/{import_id}/files/{path}", content=body).status_code == 201
    with silent_server() as endpoint, run_api(storage=replace(api.settings.storage, s3_endpoint=endpoint)) as hanging:
        began_s = time.monotonic()
        token = api.client.headers["Authorization"].removeprefix("Bearer ")
        with hanging.as_user(token) as client:
            answer = client.post(f"/v1/registry/imports/{import_id}/complete")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "object_store_unavailable")
        assert time.monotonic() - began_s < PATIENCE_S


def test_calls_with_a_deadline_end_in_time_however_many_tries_they_have() -> None:
    with silent_server() as endpoint:
        store = ObjectStore(ObjectSettings(endpoint, "key", "secret", "bucket"))
        began_s = time.monotonic()
        with pytest.raises(ObjectStoreUnavailable):
            store.within(0.3).stat("datasets/a")
        assert time.monotonic() - began_s < PATIENCE_S
        store.close()
