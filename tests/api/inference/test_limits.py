"""How much a user may ask, in every dialect and over several replicas of the API that share one Redis."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import httpx
import openai
import pytest

from api.generation.counting import TokenCount
from api.inference.limiting import limited
from api.settings import ApiSettings
from jobspecs.limits import RequestLimits
from jobspecs.rights import Principal
from storage.request_counts import RequestCounts
from tests.api.conftest import Api, RunApi
from tests.api.standing_in import TOKENS, Engine, deployed, standing_in

TEXTS = {"model": "finder", "input": "one"}
CHAT = {"model": "teller", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def engine() -> Iterator[Engine]:
    with standing_in() as engine:
        yield engine


@pytest.fixture
def served(api: Api, engine: Engine) -> Api:
    deployed(api, engine)
    return api


def limit(api: Api, **limits: int) -> None:
    assert api.admin.put(f"/v1/users/{api.user}/limits", json=limits).status_code == 200


def token_of(api: Api) -> str:
    return str(api.client.headers["Authorization"]).removeprefix("Bearer ")


def test_one_request_too_many_in_a_minute_is_refused_in_openais_words_by_any_replica(
    served: Api, run_api: RunApi
) -> None:
    limit(served, requests_per_minute=3)
    with run_api() as second, second.as_user(token_of(served)) as there:
        answers = [client.post("/v1/embeddings", json=TEXTS) for client in (served.client, there, served.client)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0"]
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=token_of(served), max_retries=0) as client:
        with pytest.raises(openai.RateLimitError, match="3 requests in a minute") as refused:
            client.embeddings.create(model="finder", input="one")
        assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "rate_limit_error")
        headers = refused.value.response.headers
        assert 1 <= int(headers["retry-after"]) <= 61
        assert headers["x-ratelimit-limit-requests"] == "3"
        assert headers["x-ratelimit-reset-requests"] == f"{headers['retry-after']}s"
    with served.as_user(served.new_user()) as other:
        assert other.post("/v1/embeddings", json=TEXTS).status_code == 404


def test_refusals_are_in_the_words_of_each_dialect_and_health_is_free(served: Api) -> None:
    limit(served, requests_per_minute=1)
    assert served.client.post("/v1/embeddings", json=TEXTS).status_code == 200
    at = f"/models/{served.user}/finder"
    embed, generate = (served.client.post(f"{at}{path}", json={"inputs": "one"}) for path in ("/embed", "/generate"))
    assert (embed.status_code, embed.json()["error_type"]) == (429, "Overloaded")
    assert (generate.status_code, generate.json()["error_type"]) == (429, "overloaded")
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in (embed, generate))
    assert served.client.get(f"{at}/info").status_code != 429


def test_no_more_than_the_allowed_requests_are_ever_in_flight(served: Api, engine: Engine, run_api: RunApi) -> None:
    limit(served, concurrent_requests=3)
    with run_api() as second, second.as_user(token_of(served)) as there, ThreadPoolExecutor(16) as pool:
        engine.may_answer.clear()
        asked = [
            pool.submit(client.post, "/v1/embeddings", json=TEXTS)
            for client in (served.client, there)
            for _ in range(8)
        ]
        while sum(answer.done() for answer in asked) < len(asked) - 3:
            time.sleep(0.01)
        engine.may_answer.set()
        codes = sorted(answer.result().status_code for answer in asked)
        assert codes == [200] * 3 + [429] * 13
        assert engine.running_most == 3
        again = list(pool.map(lambda _: there.post("/v1/embeddings", json=TEXTS).status_code, range(3)))
    assert again == [200] * 3


def test_a_stream_counts_until_its_end_and_a_client_that_leaves_frees_its_place(api: Api, engine: Engine) -> None:
    deployed(api, engine, "teller", "text-generation")
    limit(api, concurrent_requests=1, tokens_per_minute=1000)
    with api.client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        assert answer.read().count(b"data: {}") == 5
    engine.may_answer.clear()
    with pytest.raises(httpx.ReadTimeout):
        api.client.post("/v1/chat/completions", json=CHAT, timeout=0.3)
    deadline_s = time.monotonic() + 20
    engine.may_answer.set()
    while (answer := api.client.post("/v1/chat/completions", json=CHAT)).status_code == 429:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    # Five events and the prompt's bytes by four; the client that left was told nothing.
    assert 1000 - int(answer.headers["x-ratelimit-remaining-tokens"]) >= 5


def test_tokens_of_the_last_minute_are_limited(served: Api) -> None:
    limit(served, tokens_per_minute=2 * TOKENS)
    answers = [served.client.post("/v1/embeddings", json=TEXTS) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-tokens"] for answer in answers] == ["14", "7", "0"]
    assert "14 tokens in a minute" in answers[2].json()["error"]["message"]


def test_an_administrator_sets_a_users_limits_and_nobody_else(api: Api, run_api: RunApi) -> None:
    assert api.client.put("/v1/users/me/limits", json={"requests_per_minute": 0}).status_code == 403
    assert api.admin.put(f"/v1/users/{api.user}/limits", json={"requests_per_minute": -1}).status_code == 422
    platform = RequestLimits(requests_per_minute=60, tokens_per_minute=0, concurrent_requests=4)
    limit(api, concurrent_requests=0, tokens_per_minute=9)
    with run_api(request_limits=platform) as strict, strict.as_user(token_of(api)) as me:
        told = me.get("/v1/users/me/limits").json()
    assert told["own"] == {"requests_per_minute": None, "tokens_per_minute": 9, "concurrent_requests": 0}
    assert told["effective"] == {"requests_per_minute": 60, "tokens_per_minute": 9, "concurrent_requests": 0}


def test_without_redis_everything_is_answered_and_the_log_says_so(
    served: Api, run_api: RunApi, api_settings: ApiSettings, caplog: pytest.LogCaptureFixture
) -> None:
    limit(served, requests_per_minute=1)
    storage = replace(api_settings.storage, redis_url="redis://127.0.0.1:1/0")
    caplog.set_level(logging.WARNING, "storage.request_counts")
    with run_api(storage=storage) as without, without.as_user(token_of(served)) as there:
        codes = [there.post("/v1/embeddings", json=TEXTS).status_code for _ in range(3)]
    assert codes == [200] * 3
    assert "limits on requests are not enforced" in caplog.text


def counting(redis_url: str, story: Callable[..., Awaitable[None]], replicas: int = 2, lease_s: float = 30.0) -> None:
    async def run() -> None:
        counts = [RequestCounts(redis_url, lease_s=lease_s) for _ in range(replicas)]
        try:
            await story(*counts)
        finally:
            for one in counts:
                await one.close()

    asyncio.run(run())


def test_what_a_dead_replica_was_answering_is_free_again_once_its_leases_have_run_out(
    api_settings: ApiSettings,
) -> None:
    user, limits = uuid4(), RequestLimits(concurrent_requests=1)

    async def story(dead: RequestCounts, alive: RequestCounts) -> None:
        first = await dead.admit(user, limits)
        assert first is not None and not first.beyond
        for _ in range(3):  # renewed, it outlives its lease
            await asyncio.sleep(0.2)
            await dead.renew()
        refused = await alive.admit(user, limits)
        assert refused is not None and refused.beyond == "concurrency"
        deadline_s = time.monotonic() + 10
        while (got := await alive.admit(user, limits)) is not None and got.beyond:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.05)
        # Nor does the dead one take the place back when it only hung.
        await dead.renew()
        assert got is not None
        await alive.end(got, 0)
        again = await alive.admit(user, limits)
        assert again is not None and not again.beyond

    counting(api_settings.storage.redis_url, story, lease_s=0.4)


@pytest.mark.parametrize(
    ("content", "told", "tokens"),
    [
        (b'{"text": "\\"total_tokens\\": 1", "usage": {"total_tokens": 31}}', {}, 31),
        (b'{"generated_text": "a"}', {"x-prompt-tokens": "3", "x-generated-tokens": "4"}, 7),
        (b'{"generated_text": "abcd"}', {}, 26 // 4 + 4),
    ],
)
def test_tokens_are_counted_by_usage_then_by_headers_then_by_length(
    content: bytes, told: dict[str, str], tokens: int, api_settings: ApiSettings
) -> None:
    seen: list[int] = []

    async def story(counts: RequestCounts) -> None:
        user = Principal(uuid4(), "ada", frozenset({"read"}), frozenset())
        async with limited(counts, RequestLimits(), user) as asking:
            TokenCount(httpx.Response(200, headers=told), {"inputs": "abcd"}).whole(content)
            seen.append(asking.tokens)

    counting(api_settings.storage.redis_url, story, replicas=1)
    assert seen == [tokens]
