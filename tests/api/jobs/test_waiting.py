from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from jobspecs.hosts import HostReason
from tests.api.conftest import Api


@pytest.fixture
def queued(ready: Api) -> Iterator[Any]:
    """A queued job, on a platform without hosts but those of the test."""
    _forget_hosts(ready)
    job = ready.submit()
    yield job
    ready.client.post(f"/v1/jobs/{job['id']}/cancel")
    _forget_hosts(ready)


def _forget_hosts(api: Api) -> None:
    with api.database.unit_of_work() as work:
        work.session.execute(text("DELETE FROM hosts"))


def announce(api: Api, name: str, reason: HostReason | None = None, message: str | None = None) -> None:
    with api.database.unit_of_work() as work:
        work.hosts.announce(
            name,
            slots=1,
            memory_bytes=1 << 50,
            gpus=0,
            accepting=reason is None,
            reason=reason,
            message=message,
        )


def waiting(api: Api, job: Any) -> Any:
    return api.client.get(f"/v1/jobs/{job['id']}").json()["waiting_for"]


def test_a_queued_job_says_which_hosts_it_waits_for_and_what_to_do(ready: Api, queued: Any) -> None:
    assert "No worker" in waiting(ready, queued)
    announce(ready, "one", HostReason.clock_off, "Its clock is +1200 s off the database's.")
    told = waiting(ready, queued)
    assert "one takes no jobs (clock_off)" in told
    assert "+1200 s" in told
    assert "NTP" in told
    (host,) = ready.client.get("/v1/hosts").json()["data"]
    assert (host["alive"], host["accepting"], host["reason"]) == (True, False, "clock_off")
    assert "NTP" in host["remedy"]
    announce(ready, "two")
    assert waiting(ready, queued) is None, "it waits for its turn only"


def test_a_reason_that_only_newer_workers_know_is_told_without_a_remedy(ready: Api, queued: Any) -> None:
    announce(ready, "newer", HostReason.starting, "It has 97 degrees.")
    with ready.database.unit_of_work() as work:
        work.session.execute(text("UPDATE hosts SET reason = 'too_hot'"))
    assert waiting(ready, queued) == "Host newer takes no jobs (too_hot). It has 97 degrees."
    (host,) = ready.client.get("/v1/hosts").json()["data"]
    assert (host["reason"], host["remedy"]) == ("too_hot", None)
    failed = {"reason": "struck_by_lightning", "id": queued["id"]}
    with ready.database.unit_of_work() as work:
        work.session.execute(text("UPDATE jobs SET reason = :reason WHERE id = :id"), failed)
    job = ready.client.get(f"/v1/jobs/{queued['id']}").json()
    assert (job["reason"], job["remedy"]) == ("struck_by_lightning", None)
