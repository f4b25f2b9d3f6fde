from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from uuid import UUID

import pytest

from api.inference.recent import Recent
from api.settings import ApiSettings
from tests.api.conftest import Api, RunApi
from tests.api.inference.conftest import Running, deploy
from workers.inference.deployed_model import LINGER_S

TOKENS, EMBED, WISH = "/v1/users/me/tokens", "/v1/embeddings", {"model": "finder", "input": "the sea"}


KEPT_S = ApiSettings.recent_s


@pytest.fixture
def remembering(run_api: RunApi, engines: Mapping[str, Running]) -> Iterator[Api]:
    """As `served`, of an API as people run it."""
    with run_api(recent_s=KEPT_S) as api:
        yield deploy(api, engines)


class Looks:
    """Counts them."""

    def __init__(self, *found: object) -> None:
        self.found, self.count = list(found), 0

    async def __call__(self) -> object:
        self.count += 1
        return self.found[min(self.count, len(self.found)) - 1]


def test_what_was_found_is_kept_for_a_moment_and_what_was_not_is_looked_for_each_time() -> None:
    now_s = 10.0
    recent, there, missing = Recent(KEPT_S, lambda: now_s), Looks("old", "new"), Looks(None)

    async def ask() -> tuple[object, object]:
        return await recent.find("a", there), await recent.find("b", missing)

    assert [asyncio.run(ask()) for _ in range(2)] == [("old", None)] * 2
    assert (there.count, missing.count) == (1, 2)
    now_s += KEPT_S
    assert asyncio.run(ask())[0] == "new"


def test_what_was_looked_up_while_something_was_changed_is_not_kept() -> None:
    recent = Recent(KEPT_S, lambda: 10.0)

    async def before_the_change() -> str:
        recent.forget()
        return "old"

    assert asyncio.run(recent.find("a", before_the_change)) == "old"
    assert asyncio.run(recent.find("a", Looks("new"))) == "new"


def test_engines_outlive_what_is_remembered_of_them() -> None:
    assert KEPT_S < LINGER_S / 10


def test_a_token_that_is_revoked_is_refused_by_the_very_next_request(remembering: Api) -> None:
    made = remembering.client.post(TOKENS, json={"scopes": ["write"]}).json()
    with remembering.as_user(made["token"]) as asker:
        assert asker.post(EMBED, json=WISH).status_code == 200
        assert remembering.client.delete(f"{TOKENS}/{made['id']}").status_code == 204
        assert asker.post(EMBED, json=WISH).status_code == 401


def test_a_token_that_another_replica_revokes_is_refused_a_moment_later(remembering: Api) -> None:
    made = remembering.client.post(TOKENS, json={"scopes": ["write"]}).json()
    user_id = remembering.user_id()
    with remembering.as_user(made["token"]) as asker:
        assert asker.post(EMBED, json=WISH).status_code == 200
        with remembering.database.unit_of_work() as work:
            assert work.users.revoke_token(user_id, UUID(made["id"]))
        time.sleep(KEPT_S)
        assert asker.post(EMBED, json=WISH).status_code == 401


def test_a_deployment_that_is_taken_away_answers_no_request_after(remembering: Api) -> None:
    assert remembering.client.post(EMBED, json=WISH).status_code == 200
    assert remembering.client.delete("/v1/deployments/finder").status_code < 300
    assert remembering.client.post(EMBED, json=WISH).status_code == 404


def test_a_request_that_waited_for_a_deployment_to_wake_is_not_told_what_was_found_before() -> None:
    recent, asleep = Recent(KEPT_S, lambda: 10.0), Looks("asleep", "awake")
    assert asyncio.run(recent.find("a", asleep)) == "asleep"
    recent.forget()
    assert asyncio.run(recent.find("a", asleep)) == "awake"
