"""Aliases and sharing as people type them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.client.conftest import Outcome
from tests.client.documents import AT, model_version
from tests.client.stub import StubPlatform

Run = Callable[..., Outcome]
MODELS = "/v1/registry/models/admin/newsticker-quality"
ALIAS = f"{MODELS}/aliases/prod"
MOVE = {"version_from": 2, "actor": "user:ada", "at": AT}
HISTORY: dict[str, Any] = {
    "alias": "prod",
    "version": 1,
    "moves": [
        {**MOVE, "kind": "rollback", "version_to": 1, "reason": "slow"},
        {**MOVE, "kind": "set", "version_from": None, "version_to": 2, "reason": None},
    ],
}


@pytest.fixture
def registry(platform: StubPlatform) -> StubPlatform:
    platform.answers |= {
        "GET /v1/users/me": (200, {"id": "u", "name": "admin"}),
        f"GET {MODELS}/versions/3": (200, model_version({}, 3)),
        f"PUT {ALIAS}": (200, {"alias": "prod", "version": 3, "left_behind": ["served"]}),
        f"POST {ALIAS}/rollback": (200, {"alias": "prod", "version": 1}),
        f"DELETE {ALIAS}": (204, b""),
        f"GET {ALIAS}": (200, HISTORY),
        f"PATCH {MODELS}": (200, {"owner": "admin", "name": "newsticker-quality", "versions": []}),
        "GET /v1/registry/models": (200, {"data": [{**model_version({}), "owner": "ada"}]}),
    }
    return platform


def last(platform: StubPlatform) -> tuple[str, Any]:
    request = platform.requests[-1]
    return request.method, json.loads(request.body) if request.body else None


@pytest.mark.parametrize("words", [["newsticker-quality", "prod", "3"], ["newsticker-quality@3", "prod"]])
def test_an_alias_is_set_and_deployments_that_stay_behind_are_named(
    registry: StubPlatform, run: Run, words: list[str]
) -> None:
    outcome = run("models", "alias", *words, "--reason", "better")
    assert outcome.out == "newsticker-quality@prod is newsticker-quality@3\n"
    assert "eigenwerk deploy served --model newsticker-quality@prod" in outcome.err
    assert last(registry) == ("PUT", {"version": 3, "reason": "better"})


def test_an_alias_is_rolled_back_deleted_and_told_of(registry: StubPlatform, run: Run) -> None:
    assert run("models", "alias", "newsticker-quality", "prod", "--rollback").out.endswith("quality@1\n")
    assert last(registry) == ("POST", {})
    assert run("models", "alias", "newsticker-quality", "prod", "--delete").code == 0
    assert last(registry)[0] == "DELETE"
    assert run("models", "alias", "newsticker-quality", "prod").out.endswith("prod is newsticker-quality@1\n")
    told = run("models", "alias", "newsticker-quality", "prod", "--history").out
    assert "user:ada" in told and "rollback" in told and "slow" in told
    assert json.loads(run("models", "alias", "newsticker-quality", "prod", "--history", "--json").out)["version"] == 1


def test_an_alias_is_asked_for_one_thing_at_a_time(registry: StubPlatform, run: Run) -> None:
    for words in (["m", "prod", "3", "--rollback"], ["m@2", "prod", "3"], ["m", "prod", "--history", "--delete"]):
        assert run("models", "alias", *words).code == 2, words
    assert registry.requests == []


def test_a_model_is_shared_made_private_and_others_are_listed_with_their_owners(
    registry: StubPlatform, run: Run
) -> None:
    for command, wanted in (("share", "everyone"), ("unshare", "private")):
        assert run("models", command, "newsticker-quality").code == 0
        assert last(registry) == ("PATCH", {"visibility": wanted})
    assert "admin/newsticker-quality@1" in run("models", "list", "--shared").out
    assert registry.requests[-1].query == "shared=true"
