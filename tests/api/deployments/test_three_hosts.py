"""A deployment on three hosts: one is killed, one is drained, one comes back while people ask, and nobody notices.

The hosts are 127.0.0.2, .3 and .4; API, database, leases and TLS are real, and the engines stand-ins.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from api.settings import ApiSettings
from jobspecs.rights import Reach
from storage.migrate import ensure_admin
from storage.objects import ObjectSettings, ObjectStore
from tests.api.conftest import ADMIN_TOKEN, Api, RunApi
from tests.workers.inference.conftest import Place, Worker, eventually

_HOSTS = ("two", "three", "four")
StartHost = Callable[..., Worker]

#: A dead host's share is free after this.
LEASE_S = 4.0
_LEASE = {"EIGENWERK_LEASE_S": str(LEASE_S), "EIGENWERK_SELF_FENCE_S": "2", "EIGENWERK_HEARTBEAT_S": "0.5"}


@dataclass
class Asking:
    """People who ask without a pause; `hosts` counts who has answered."""

    hosts: Counter[str] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)

    def go_on(self, api: Api) -> None:
        while not self.enough.is_set():
            answer = api.client.post("/v1/classify", json={"model": "headlines", "input": ["good news"]})
            if answer.status_code == 200:
                self.hosts[answer.json()["results"][0][0]["label"]] += 1
            else:
                self.refusals.append(answer.text)

    def until_each_of(self, *hosts: str) -> None:
        """All of them answer, and nobody else once what was in hand has ended."""

        def they_alone() -> bool:
            self.hosts.clear()
            eventually(lambda: min(self.hosts[host] for host in hosts) > 3, f"answers of {hosts}: {self.hosts}")
            return self.hosts.keys() <= {*hosts}

        eventually(they_alone, f"answers of {hosts} alone, there were {self.hosts}")


@contextlib.contextmanager
def asked(api: Api, people: int = 4) -> Iterator[Asking]:
    asking = Asking()
    threads = [threading.Thread(target=asking.go_on, args=(api,)) for _ in range(people)]
    for thread in threads:
        thread.start()
    try:
        yield asking
    finally:
        asking.enough.set()
        for thread in threads:
            thread.join()


@pytest.fixture
def three_hosts(
    run_api: RunApi, api_settings: ApiSettings, database_url: str, object_settings: dict[str, Any], tmp_path: Path
) -> Iterator[tuple[Api, dict[str, Worker], StartHost]]:
    """A deployment with a share on each of the hosts 2, 3 and 4; and what starts one of them again."""
    ensure_admin(database_url, ADMIN_TOKEN)
    access = ObjectSettings(**object_settings)
    with contextlib.ExitStack() as stack:
        storage = replace(api_settings.storage, database_url=database_url)
        api = stack.enter_context(run_api(storage=storage))
        environment = {
            "EIGENWERK_DATABASE_URL": database_url,
            "EIGENWERK_REDIS_URL": storage.redis_url,
            "EIGENWERK_S3_ENDPOINT": access.endpoint_url,
            "EIGENWERK_S3_ACCESS_KEY": access.access_key,
            "EIGENWERK_S3_SECRET_KEY": access.secret_key,
            "EIGENWERK_S3_BUCKET": access.bucket,
            "EIGENWERK_MEMORY_BYTES": str(1 << 32),
            **_LEASE,
        }
        store = stack.enter_context(contextlib.closing(ObjectStore(access)))
        place = Place(api.database, store, environment, tmp_path, api.user_id(), "", "")
        place.register("headlines", ("good", "bad"))

        def start(name: str, **more: str) -> Worker:
            address = f"127.0.0.{_HOSTS.index(name) + 2}"
            module = "tests.workers.inference.stand_in_worker"
            return place.start_worker(name, module, EIGENWERK_HOST_ADDRESS=address, **more)

        try:
            hosts = {name: start(name) for name in _HOSTS}
            eventually(lambda: len(api.client.get("/v1/hosts").json()["data"]) == 3, "three hosts")
            wanted = {"replicas": 3, "hosts": 3, "memory_gib": 0.3}
            assert api.client.put("/v1/deployments/headlines", json=wanted).status_code == 202
            eventually(lambda: sorted(_serving(api)) == sorted(hosts), "a share on each host")
            yield api, hosts, start
        finally:
            for worker in place.workers:
                worker.process.kill()
                worker.process.wait()


def _serving(api: Api) -> list[str]:
    """The hosts whose engines answer, one for each share."""
    shown = api.client.get("/v1/deployments/headlines").json()
    return [share["moving_from"] or share["host"] for share in shown["hosts"] if share["state"] == "ready"]


def test_no_request_fails_when_a_host_dies_or_is_drained_or_comes_back(
    three_hosts: tuple[Api, dict[str, Worker], StartHost],
) -> None:
    api, hosts, start = three_hosts
    with api.database.unit_of_work() as work:
        rows = work.deployments.find_shares(Reach.of(api.user_id()), "headlines")
        assert {str(row.endpoint).rpartition(":")[0] for row in rows} == {
            *("https://127.0.0.2", "https://127.0.0.3", "https://127.0.0.4")
        }
    with asked(api) as asking:
        asking.until_each_of("two", "three", "four")
        hosts["three"].process.kill()
        hosts["three"].process.wait()
        asking.until_each_of("two", "four")
        eventually(lambda: len(_serving(api)) == 3 and "three" not in _serving(api), "another host has taken it over")
        asking.until_each_of("two", "four")
        assert api.admin.put("/v1/hosts/four/draining").json()["draining"]
        eventually(lambda: _serving(api) == ["two"] * 3, "everything has moved")
        asking.until_each_of("two")
    assert asking.refusals == []
    assert api.client.put("/v1/hosts/four/draining").status_code == 403
    # What is handed back in good order is taken at once.
    assert not api.admin.delete("/v1/hosts/four/draining").json()["draining"]
    hosts["two"].stop()
    eventually(lambda: _serving(api) == ["four"] * 3, "the host that is used again has everything")
    # A host that comes back, or joins, gets one share once it has lived for a while.
    with asked(api) as asking:
        start("two", STAND_IN_SETTLED_S="1")
        eventually(lambda: sorted(_serving(api)) == ["four", "four", "two"], "a share has moved")
        asking.until_each_of("two", "four")
    assert asking.refusals == []
    assert sorted(_serving(api)) == ["four", "four", "two"]
