"""What every request meets: strict JSON, one shape of errors, ids, host names, health and figures."""

from __future__ import annotations

import asyncio
import gc
import re
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from operator import getitem
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from api.app import create_app
from api.errors import ApiError, add_error_handlers
from api.settings import ApiSettings
from jobspecs.problems import PROBLEMS_MAX
from jobspecs.registry import SPECS
from jobspecs.strict_json import UnacceptableJson, parse_json, parse_json_file
from storage.database import Database
from tests.api.conftest import ADMIN_TOKEN, SPEC, Api, RunApi


def lead(database: Database, *, silent_for_s: float) -> None:
    """As a scheduler does, that looked at the queue so many seconds ago."""
    with database.leadership("here:1", silent_s=10) as leadership:
        assert leadership.acquire()
    with database.unit_of_work() as work:
        age = {"s": silent_for_s}
        work.session.execute(text("UPDATE scheduler_leader SET beat_at = beat_at - make_interval(secs => :s)"), age)


def post(api: Api, body: bytes) -> httpx.Response:
    return api.client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"kind": "a", "kind": "b"}', "appears twice"),
        (b'{"kind": NaN}', "no number in JSON"),
        (b'{"kind": -Infinity}', "no number in JSON"),
        (b'{"kind": 1e400}', "too large"),
        (b'{"kind": ' + b"9" * 5000 + b"}", "has too many digits."),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested deeper"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"kind": "\\ud800"}', "surrogate"),
        (b'{"kind": "a\\u0000b"}', "NUL"),
        (b'{"kind": "\xff"}', "not UTF-8"),
        (b'{"kind": ', "line 1"),
        (b"\xef\xbb\xbf{}", "line 1"),
    ],
)
def test_json_that_is_not_plain_is_refused(api: Api, body: bytes, words: str) -> None:
    answer = post(api, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")
    assert words in answer.json()["error"]["message"]


def test_brackets_and_escapes_inside_strings_are_only_text() -> None:
    text = r'{"a": "[[[[{{{{\"[", "b": "\\u0000", "c": "\\\\"}'
    assert parse_json(text.encode()) == {"a": '[[[[{{{{"[', "b": r"\u0000", "c": "\\\\"}


MANY_FIELDS = b"{" + b"".join(b'"%d":1,' % number for number in range(91_000)) + b'"0":1}'


@pytest.mark.parametrize(
    "body",
    [b'"' * 1_000_000, b'\\"' * 500_000, b'"\\' * 500_000, b"{" * 1_000_000, MANY_FIELDS, b"[" + b"[]," * 330_000],
)
def test_a_hostile_body_takes_no_long_time(body: bytes) -> None:
    began_s = time.process_time()
    with pytest.raises(UnacceptableJson):
        parse_json(body)
    # The slowest takes 0.3 s; a search of each field among all fields took 92 s.
    assert time.process_time() - began_s < 5


def test_a_document_of_nothing_but_brackets_is_refused_before_it_is_built() -> None:
    with pytest.raises(UnacceptableJson, match="lists and objects"):
        parse_json_file(b"[" + b"[]," * 3_000_000 + b"[]]")


def test_a_body_beyond_a_megabyte_is_refused(api: Api) -> None:
    assert post(api, b'"' + b"x" * 1_000_001 + b'"').status_code == 413


def test_json_must_say_that_it_is_json(api: Api) -> None:
    answer = api.client.post("/v1/jobs", content=b"{}", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/jobs/", 404),
        ("PATCH", "/v1/jobs", 405),
        ("GET", "/v1/jobs/not-an-id", 422),
        ("GET", "/v1/jobs?limit=0", 422),
        ("GET", "/v1/jobs?before=99999999999999999999999", 422),
        ("GET", "/v1/datasets/headlines/versions/99999999999", 422),
        ("GET", "/v1/datasets/..%00", 422),
        ("POST", "/v1/jobs", 422),
        ("GET", "/v1/schemas/nothing", 404),
    ],
)
def test_all_errors_have_one_shape(api: Api, method: str, path: str, status: int) -> None:
    answer = api.client.request(method, path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code", "problems"}
    assert error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_request_id_is_passed_on_when_it_is_harmless(api: Api) -> None:
    assert api.client.get("/healthz", headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"
    for harmful in ("a b", "x" * 65, "<script>"):
        given = api.client.get("/healthz", headers={"X-Request-Id": harmful}).headers["X-Request-Id"]
        assert re.fullmatch(r"[0-9a-f]{32}", given)
    assert api.client.get("/nowhere").headers["X-Request-Id"]


def test_another_host_name_is_not_answered(api: Api) -> None:
    answer = httpx.get(f"{api.url}/healthz", headers={"Host": "evil.example:80"}, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "unknown_host")


def test_an_unforeseen_error_tells_an_id_and_nothing_else(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr("api.jobs.service.list_jobs", explode)
    answer = api.client.get("/v1/jobs")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert answer.headers["X-Request-Id"] in answer.json()["error"]["message"]
    assert "secret" not in answer.text


def test_without_the_database_every_route_answers_503_and_when_to_come_back(api_settings: ApiSettings) -> None:
    away = replace(api_settings.storage, database_url="postgresql+psycopg://nobody@127.0.0.1:1/nothing")

    async def ask() -> list[httpx.Response]:
        app = create_app(replace(api_settings, storage=away))
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://localhost", headers=headers
            ) as client,
        ):
            return [await client.post("/v1/jobs", json=SPEC), await client.get("/readyz"), await client.get("/healthz")]

    submitted, ready, alive = asyncio.run(ask())
    assert (submitted.status_code, submitted.json()["error"]["code"]) == (503, "database_unavailable")
    assert int(submitted.headers["Retry-After"]) > 0
    assert (ready.status_code, ready.json()["database"]) == (503, "unavailable")
    assert alive.status_code == 200


class TestHealth:
    def test_a_whole_platform_is_ready(self, api: Api, run_api: RunApi) -> None:
        lead(api.database, silent_for_s=2)
        with run_api() as fresh, fresh.as_user(None) as anonymous:
            assert anonymous.get("/healthz").json() == {"status": "ok"}
            answer = anonymous.get("/readyz")
        assert (answer.status_code, answer.json()["status"], answer.json()["reasons"]) == (200, "ok", [])

    def test_when_nothing_schedules_it_is_degraded_says_why_and_is_still_ready(self, api: Api, run_api: RunApi) -> None:
        lead(api.database, silent_for_s=40)
        with run_api() as fresh:
            answer = fresh.client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["scheduler"] == "unavailable"
        assert re.fullmatch(r"No scheduler has looked at the queue for \d+ s: jobs wait\.", answer.json()["reasons"][0])

    def test_without_redis_it_is_degraded_and_still_ready(self, run_api: RunApi, api: Api) -> None:
        with run_api(storage=replace(api.settings.storage, redis_url="redis://127.0.0.1:1/0")) as other:
            answer = other.client.get("/readyz")
        assert (answer.status_code, answer.json()["status"], answer.json()["redis"]) == (200, "degraded", "unavailable")

    def test_without_the_object_store_it_is_not_ready(self, run_api: RunApi, api: Api) -> None:
        with run_api(storage=replace(api.settings.storage, s3_endpoint="http://127.0.0.1:1")) as other:
            answer = other.client.get("/readyz")
        assert (answer.status_code, answer.json()["objects"], answer.json()["database"]) == (503, "unavailable", "ok")


def test_the_description_of_the_api_is_complete_and_public(api: Api) -> None:
    with api.as_user(None) as anonymous:
        document = anonymous.get("/openapi.json").json()
    assert {"/v1/jobs", "/v1/classify", "/v1/registry/models"} <= document["paths"].keys()


def test_every_list_that_people_send_has_a_maximum(api: Api) -> None:
    """Each item that is wrong costs 10 µs or more, in a body of a megabyte 300,000 times."""
    document = api.client.get("/openapi.json").json()
    sent: dict[str, Any] = {
        f"{method} {path}": [operation.get("requestBody"), operation.get("parameters")]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    sent |= {kind: spec.model_json_schema() for kind, spec in SPECS.items()}
    lists = {place: list(_lists(schema, document if " " in place else schema)) for place, schema in sent.items()}
    assert sum(map(len, lists.values())) > 10
    unbounded = {place: [each for each in found if "maxItems" not in each] for place, found in lists.items()}
    assert {place: found for place, found in unbounded.items() if found} == {}


def _lists(schema: Any, document: Any) -> Iterator[dict[str, Any]]:
    """Each list in a JSON schema, with those that it refers to."""
    if isinstance(schema, dict):
        if schema.get("type") == "array":
            yield schema
        if (reference := str(schema.get("$ref"))).startswith("#/"):
            yield from _lists(reduce(getitem, reference.removeprefix("#/").split("/"), document), document)
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _lists(part, document)


def test_a_spec_that_is_wrong_in_many_places_is_refused_in_few_words(api: Api) -> None:
    for kind, field, count in (("train-embedder", "negative", 480_000), ("train-embedder", "negative", 100)):
        spec = {"kind": kind, "name": "n", "model": "m", "dataset": "d", field: [0] * count}
        answer = api.client.post("/v1/jobs/check", json=spec)
        assert (answer.status_code, len(answer.content) < 20_000) == (422, True)
        assert 0 < len(answer.json()["error"]["problems"]) <= PROBLEMS_MAX


def test_a_query_parameter_that_nothing_reads_is_refused_with_those_that_there_are(api: Api) -> None:
    answer = api.client.get("/v1/jobs", params={"limt": 3})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (422, "limt")
    assert "limit" in error["message"]
    assert api.client.get("/v1/hosts?limit=3").status_code == 422


@pytest.mark.parametrize("query", ["registry/models?q=a%00", "registry/models?tag=a&base=%00", "datasets?shared=%00"])
def test_a_nul_in_a_query_is_refused_and_no_defect(api: Api, query: str) -> None:
    answer = api.client.get(f"/v1/{query}")
    assert (answer.status_code, "NUL" in answer.text) == (422, True)


def test_the_schema_of_a_kind_describes_its_spec(api: Api) -> None:
    assert api.client.get("/v1/schemas").json()["data"][0]["kind"] == "train-classifier"
    schema = api.client.get("/v1/schemas/train-classifier").json()
    assert set(SPEC) <= schema["properties"].keys()
    assert schema["additionalProperties"] is False


class TestSettings:
    def test_it_does_not_listen_to_the_world_by_accident(self, api_settings: ApiSettings) -> None:
        for host in ("::", "192.0.2.1", "gpu-host"):
            with pytest.raises(RuntimeError, match="EIGENWERK_PUBLIC_URL"):
                replace(api_settings, host=host)
        for host in ("127.0.0.1", "::1", "localhost"):
            replace(api_settings, host=host)

    def test_a_public_url_names_a_host_that_is_answered(self, api_settings: ApiSettings) -> None:
        settings = replace(api_settings, host="::", public_url="https://eigenwerk.example:8443/")
        assert settings.hosts is not None
        assert "eigenwerk.example" in settings.hosts
        assert replace(api_settings, host="::", allow_public=True).hosts is None


class Document:
    """What a body became."""


def test_what_a_refused_body_became_is_freed_with_the_answer() -> None:
    app, held = FastAPI(), []
    add_error_handlers(app)

    def refuse() -> None:
        document = Document()
        held.append(weakref.ref(document))
        try:
            raise UnacceptableJson("it has too many fields")
        except UnacceptableJson as error:
            raise ApiError(400, str(error)) from error

    @app.get("/")
    async def refused() -> None:
        await anyio.to_thread.run_sync(refuse)

    async def story() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            assert (await client.get("/")).status_code == 400
        assert held[0]() is None

    gc.disable()
    try:
        anyio.run(story)
    finally:
        gc.enable()
