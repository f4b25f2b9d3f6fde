from __future__ import annotations

import asyncio
import time
from uuid import UUID

from api.inference.recent import KEPT_S, Recent
from tests.api.conftest import Api
from workers.inference.deployed_model import LINGER_S

TOKENS, EMBED, WISH = "/v1/users/me/tokens", "/v1/embeddings", {"model": "finder", "input": "the sea"}


class Looks:
    """Counts them."""

    def __init__(self, *found: object) -> None:
        self.found, self.count = list(found), 0

    async def __call__(self) -> object:
        self.count += 1
        return self.found[min(self.count, len(self.found)) - 1]


def test_what_was_found_is_kept_for_a_moment_and_what_was_not_is_looked_for_each_time() -> None:
    now_s = 10.0
    recent, there, missing = Recent(lambda: now_s), Looks("old", "new"), Looks(None)

    async def ask() -> tuple[object, object]:
        return await recent.find("a", there), await recent.find("b", missing)

    assert [asyncio.run(ask()) for _ in range(2)] == [("old", None)] * 2
    assert (there.count, missing.count) == (1, 2)
    now_s += KEPT_S
    assert asyncio.run(ask())[0] == "new"


def test_what_was_looked_up_while_something_was_changed_is_not_kept() -> None:
    recent = Recent(lambda: 10.0)

    async def before_the_change() -> str:
        recent.forget()
        return "old"

    assert asyncio.run(recent.find("a", before_the_change)) == "old"
    assert asyncio.run(recent.find("a", Looks("new"))) == "new"


def test_engines_outlive_what_is_remembered_of_them() -> None:
    assert KEPT_S < LINGER_S / 10


def test_a_token_that_is_revoked_is_refused_by_the_very_next_request(served: Api) -> None:
    made = served.client.post(TOKENS, json={"scopes": ["write"]}).json()
    with served.as_user(made["token"]) as asker:
        assert asker.post(EMBED, json=WISH).status_code == 200
        assert served.client.delete(f"{TOKENS}/{made['id']}").status_code == 204
        assert asker.post(EMBED, json=WISH).status_code == 401


def test_a_token_that_another_replica_revokes_is_refused_within_a_second(served: Api) -> None:
    made = served.client.post(TOKENS, json={"scopes": ["write"]}).json()
    user_id = served.user_id()
    with served.as_user(made["token"]) as asker:
        assert asker.post(EMBED, json=WISH).status_code == 200
        with served.database.unit_of_work() as work:
            assert work.users.revoke_token(user_id, UUID(made["id"]))
        until_s = time.monotonic() + 1
        while asker.post(EMBED, json=WISH).status_code != 401:
            assert time.monotonic() < until_s


def test_a_deployment_that_is_taken_away_answers_no_request_after(served: Api) -> None:
    assert served.client.post(EMBED, json=WISH).status_code == 200
    assert served.client.delete("/v1/deployments/finder").status_code < 300
    assert served.client.post(EMBED, json=WISH).status_code == 404
