from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.client.conftest import Outcome
from tests.client.documents import JOB_ID, OTHER_ID, job
from tests.client.stub import Answer, Request, StubPlatform

Run = Callable[..., Outcome]

OLD_ID = "50c3f6de-0000-4000-8000-000000000001"
THEIR_ID = "99e4b1c6-5d0a-4f8e-9b3c-2a1d0e6f7c58"
#: A call that changes the job, and the state in which the change can be meant.
CHANGES = [
    (["cancel"], "running", f"POST /v1/jobs/{OTHER_ID}/cancel"),
    (["pause"], "running", f"POST /v1/jobs/{OTHER_ID}/pause"),
    (["resume"], "paused", f"POST /v1/jobs/{OTHER_ID}/resume"),
    (["retry"], "failed", f"POST /v1/jobs/{OTHER_ID}/retry"),
    (["jobs", "rm", "--yes"], "cancelled", f"DELETE /v1/jobs/{OTHER_ID}"),
    (["jobs", "boost"], "queued", f"PATCH /v1/jobs/{OTHER_ID}"),
]


def serve(platform: StubPlatform, mine: list[dict[str, Any]], theirs: list[dict[str, Any]] | None = None) -> None:
    """Answers of a platform with jobs of mine, newest first, and of others."""

    def listed(request: Request) -> Answer:
        found = [*mine, *(theirs or [])] if "all=true" in request.query else mine
        return 200, {"data": found, "has_more": False, "next_before": None}

    platform.answers["GET /v1/jobs"] = listed
    for one in [*mine, *(theirs or [])]:
        path = f"/v1/jobs/{one['id']}"
        log = {"data": [], "has_more": False, "cursor": None}
        platform.answers |= {f"GET {path}": (200, one), f"GET {path}/logs": (200, log)}
        platform.answers |= {f"POST {path}/{change}": (200, one) for change in ("cancel", "pause", "resume", "retry")}
        platform.answers |= {f"DELETE {path}": (200, {"deleted": [one["id"]], "bytes": 0}), f"PATCH {path}": (200, one)}


def asked(platform: StubPlatform) -> str:
    return f"{platform.requests[-1].method} {platform.requests[-1].path}"


def changed(platform: StubPlatform) -> list[str]:
    return [request.path for request in platform.requests if request.method != "GET"]


@pytest.mark.parametrize("command", ["show", "logs"])
def test_of_several_jobs_with_a_name_the_newest_is_shown_and_that_it_is(
    command: str, platform: StubPlatform, run: Run
) -> None:
    serve(platform, [job(name="news"), job(id=OTHER_ID, name="news"), job(id=OLD_ID, name="other")])
    outcome = run(command, "news")
    assert outcome.code == 0, outcome.err
    assert outcome.err.splitlines()[0] == "2 jobs are named news; this is the newest, 3f2a91c0, not 3f77aa01"
    assert asked(platform).startswith(f"GET /v1/jobs/{JOB_ID}")
    assert "named" not in run(command, "other").err
    assert run(command, "3f").code == 1, "which of two ids that begin so is meant can't be told by their age"


@pytest.mark.parametrize(("command", "state", "request_line"), CHANGES)
def test_a_name_changes_a_job_only_when_no_other_can_be_meant(
    command: list[str], state: str, request_line: str, platform: StubPlatform, run: Run
) -> None:
    serve(platform, [job("succeeded" if state != "cancelled" else "running", name="news"), job(id=OLD_ID, name="x")])
    platform.answers[request_line] = (200, job(state, id=OTHER_ID))
    assert run(*command, "x").code == 0, "the only one with its name"
    several = [job(state, name="news"), job(state, id=OTHER_ID, name="news")]
    serve(platform, several)
    before = changed(platform)
    outcome = run(*command, "news")
    assert outcome.code == 1
    assert "error: news can mean 2 jobs. Give the id" in outcome.err
    assert JOB_ID in outcome.err
    assert OTHER_ID in outcome.err
    assert changed(platform) == before


@pytest.mark.parametrize(("command", "state", "request_line"), CHANGES)
def test_of_several_jobs_with_a_name_the_only_one_that_can_change_is_meant(
    command: list[str], state: str, request_line: str, platform: StubPlatform, run: Run
) -> None:
    no_longer = "running" if state == "cancelled" else "succeeded"
    serve(platform, [job(no_longer, name="news"), job(state, id=OTHER_ID, name="news")])
    platform.answers[request_line] = (200, {**job(state, id=OTHER_ID), "deleted": [OTHER_ID], "bytes": 0})
    outcome = run(*command, "news")
    assert outcome.code == 0, outcome.err
    assert asked(platform) == request_line


@pytest.mark.parametrize("command", [["show"], ["logs"], ["cancel"], ["retry"], ["jobs", "rm", "--yes"]])
def test_others_jobs_are_reached_by_all_and_never_by_a_beginning_alone(
    command: list[str], platform: StubPlatform, run: Run
) -> None:
    serve(platform, [job()], [job("failed", id=THEIR_ID, owner="kim")])
    outcome = run(*command, "99")
    assert outcome.code == 1
    assert outcome.err == (
        "error: You have no job 99. `eigenwerk jobs` lists yours; an administrator finds others' with --all.\n"
    )
    assert not any(THEIR_ID in request.path for request in platform.requests)
    assert run(*command, "99", "--all").code == 0
    assert THEIR_ID in platform.requests[-1].path


def test_a_whole_id_is_asked_for_without_looking(platform: StubPlatform, run: Run) -> None:
    serve(platform, [], [job(id=THEIR_ID, owner="kim")])
    assert json.loads(run("show", THEIR_ID, "--json").out)["owner"] == "kim"
    assert [request.path for request in platform.requests] == [f"/v1/jobs/{THEIR_ID}"]
