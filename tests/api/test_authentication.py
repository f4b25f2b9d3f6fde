"""Every route, walked by people who must not come in."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts

from api.app import create_app
from api.authentication import PUBLIC_PATHS, PUBLIC_ROUTES_MAX, GuardedRoute, check_routes, guarded_router, public
from api.settings import ApiSettings
from jobspecs.rights import RULES
from tests.api.conftest import ADMIN_TOKEN, Api

UNKNOWN_ID = "00000000-0000-0000-0000-000000000001"


def routes(settings: ApiSettings) -> list[tuple[str, str, str]]:
    """(method, a path that fits, the least scope that its action needs) of every route of the application."""
    values = {
        **dict.fromkeys(
            ("job_id", "import_id", "token_id", "webhook_id", "delivery_id", "pipeline_id", "sweep_id"), UNKNOWN_ID
        ),
        **dict.fromkeys(("file_id", "upload_id", "fine_tuning_job_id", "batch_id"), "x"),
        **{"name": "thing", "owner": "nobody", "version": "1", "selector": "1", "alias": "prod"},
        **{"sha256": "0" * 64, "secret": "{secret}", "picture": "loss.svg"},
        **{"path": "config.json", "model": "thing", "kind": "train-classifier"},
        **{"repo_type": "models", "revision": "main", "sha256": "0" * 64, "number": "1", "period": "x", "tag": "prod"},
    }
    found: list[tuple[str, str, str]] = []
    for context in iter_route_contexts(create_app(settings).routes):
        route = context.original_route
        assert isinstance(route, GuardedRoute)
        path = re.sub(r"\{([^}]+)\}", lambda match: values[match[1]], route.path_format)
        scope = "public" if route.action == "public" else RULES[route.action].least
        found += [(method, path, scope) for method in sorted(route.methods or ())]
    return found


def statuses(client: httpx.Client, walked: list[tuple[str, str, str]]) -> dict[tuple[str, str], int]:
    return {(method, path): client.request(method, path).status_code for method, path, _ in walked}


def test_no_route_lets_in_who_has_no_valid_token(api: Api) -> None:
    walked = [route for route in routes(api.settings) if route[2] != "public"]
    assert len(walked) > 25
    mine = "/v1/users/me/tokens"
    revoked = api.client.post(mine, json={"scopes": ["read"]}).json()
    assert api.client.delete(f"{mine}/{revoked['id']}").status_code == 204
    expired = api.client.post(mine, json={"scopes": ["read"], "expires_in": "0.05s"}).json()["token"]
    outsiders = {
        "anonymous": None,
        "bad": "ew_" + "b" * 43,
        "long": "e" * 5000,
        "revoked": revoked["token"],
        "expired": expired,
    }
    for who, token in outsiders.items():
        with api.as_user(token) as client:
            answers = statuses(client, walked)
            assert set(answers.values()) == {401}, (who, answers)
            refusal = client.get("/v1/jobs")
            assert refusal.headers["WWW-Authenticate"].startswith("Bearer")
            assert refusal.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("held", "refused"),
    [
        ("read", {"write", "metrics", "admin"}),
        ("write", {"metrics", "admin"}),
        ("metrics", {"read", "write", "admin"}),
        ("admin", set()),
    ],
)
def test_a_token_opens_what_its_scope_includes_and_nothing_more(api: Api, held: str, refused: set[str]) -> None:
    with api.as_user(api.new_user(held)) as client:
        for method, path, scope in routes(api.settings):
            answer = client.request(method, path)
            assert (answer.status_code == 403) == (scope in refused), (method, path, answer.status_code)
            assert answer.status_code != 401


def test_nobody_finds_what_belongs_to_another_user(api: Api) -> None:
    api.push("thing")
    api.import_model("thing")
    api.submit(name="thing", dataset="thing", model="thing")
    with api.as_user(api.new_user()) as other:
        for method, path, scope in routes(api.settings):
            if "nobody" in path or path.endswith("/thing") or "/thing/" in path:
                path = path.replace("nobody", api.user)
                answer = other.request(method, path, json={} if method == "PUT" else None)
                # OpenAI's routes call a body that is none 400, where others say 422.
                denied = {404, 400} if path.startswith("/models/") and "/v1/" in path else {404, 422}
                refused = {403} if scope == "admin" else denied
                assert answer.status_code in refused, (method, path, answer.status_code)
                assert api.user not in answer.text.replace(f"{api.user}/thing", "")


def test_the_token_is_checked_before_the_body_is_read(api: Api) -> None:
    with api.as_user(None) as anonymous:
        assert anonymous.post("/v1/jobs", content=b"{" * 5_000_000).status_code == 401


def test_other_kinds_of_credentials_are_not_taken(api: Api) -> None:
    for value in (f"Basic {ADMIN_TOKEN}", ADMIN_TOKEN, "Bearer", f"Bearer {ADMIN_TOKEN} x", "Bearer \u00e9"):
        answer = httpx.get(f"{api.url}/v1/jobs", headers=[(b"Authorization", value.encode())], trust_env=False)
        assert answer.status_code == 401
    answer = httpx.get(f"{api.url}/v1/jobs", params={"token": ADMIN_TOKEN}, trust_env=False)
    assert answer.status_code == 401


def test_at_most_five_routes_are_public(api_settings: ApiSettings) -> None:
    open_paths = {path for _, path, scope in routes(api_settings) if scope == "public"}
    assert open_paths == PUBLIC_PATHS
    assert len(open_paths) <= PUBLIC_ROUTES_MAX


def test_a_route_without_a_declared_scope_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="declare who may call it"):
        guarded_router("test").get("/v1/open")(lambda: None)


def test_an_application_with_an_open_route_does_not_start() -> None:
    plain, hidden = APIRouter(), guarded_router("test")
    plain.get("/v1/open")(lambda: None)
    hidden.get("/v1/hidden")(public(lambda: None))
    for router in (plain, hidden):
        app = FastAPI(openapi_url=None)
        app.include_router(router)
        with pytest.raises(RuntimeError):
            check_routes(app)


class TestTokens:
    def test_a_token_is_shown_once_and_stored_as_its_hash(self, api: Api) -> None:
        made = api.client.post("/v1/users/me/tokens", json={"scopes": ["read"], "expires_in": "1h"}).json()
        assert re.fullmatch(r"ew_[A-Za-z0-9_-]{43}", made["token"])
        listed = api.client.get("/v1/users/me/tokens")
        assert made["token"] not in listed.text
        entry = next(token for token in listed.json()["data"] if token["id"] == made["id"])
        assert (entry["scopes"], entry["hint"]) == (["read"], made["token"][:8])
        assert entry["expires_at"] is not None
        with api.as_user(made["token"]) as client:
            me = client.get("/v1/users/me").json()
            assert (me["name"], me["scopes"]) == (api.user, ["read"])

    def test_a_token_hands_on_only_what_it_has(self, api: Api) -> None:
        for scope, status in (("read", 201), ("write", 201), ("metrics", 403), ("admin", 403)):
            assert api.client.post("/v1/users/me/tokens", json={"scopes": [scope]}).status_code == status

    def test_a_token_hands_on_no_more_time_than_it_has(self, api: Api) -> None:
        mine = "/v1/users/me/tokens"
        brief = api.client.post(mine, json={"scopes": ["write"], "expires_in": "1h"}).json()
        with api.as_user(brief["token"]) as client:
            for asked in ({}, {"expires_in": "2h"}):
                made = client.post(mine, json={"scopes": ["read"], **asked}).json()
                assert made["expires_at"] == brief["expires_at"]
            shorter = client.post(mine, json={"scopes": ["read"], "expires_in": "1m"}).json()
            assert datetime.fromisoformat(shorter["expires_at"]) < datetime.fromisoformat(brief["expires_at"])
        assert api.client.post(mine, json={"scopes": ["read"]}).json()["expires_at"] is None

    def test_a_revoked_token_stays_revoked_when_it_is_stored_again(self, api: Api) -> None:
        token = api.new_user()
        with api.as_user(token) as client:
            (row,) = client.get("/v1/users/me/tokens").json()["data"]
            assert client.delete(f"/v1/users/me/tokens/{row['id']}").status_code == 204
            with api.database.unit_of_work() as work:
                # As each start of the platform does with the administrator's.
                stored = work.users.add_token(api.user_id(), token, scopes=("read",))
                assert str(stored.id) == row["id"]
            assert client.get("/v1/users/me").status_code == 401

    def test_tokens_of_others_are_the_administrators_business(self, api: Api) -> None:
        with api.as_user(api.new_user()) as other:
            assert other.get(f"/v1/users/{api.user}/tokens").status_code == 404
            assert other.post(f"/v1/users/{api.user}/tokens", json={"scopes": ["read"]}).status_code == 404
            assert other.post("/v1/users", json={"name": "x"}).status_code == 403
        tokens = api.admin.get(f"/v1/users/{api.user}/tokens").json()["data"]
        assert api.admin.delete(f"/v1/users/{api.user}/tokens/{tokens[0]['id']}").status_code == 204
        assert api.client.get("/v1/users/me").status_code == 401

    @pytest.mark.parametrize(
        "body", [{}, {"scopes": []}, {"scopes": ["all"]}, {"scopes": ["read"], "expires_in": "-1s"}]
    )
    def test_a_request_for_a_token_that_makes_no_sense_is_refused(self, api: Api, body: dict[str, object]) -> None:
        assert api.client.post("/v1/users/me/tokens", json=body).status_code == 422

    def test_a_user_is_made_once_and_is_not_called_me(self, api: Api) -> None:
        assert api.admin.post("/v1/users", json={"name": api.user}).status_code == 409
        for name in ("me", "../x", "", "a b"):
            assert api.admin.post("/v1/users", json={"name": name}).status_code == 422


def test_an_expired_token_had_been_valid(api: Api) -> None:
    made = api.client.post("/v1/users/me/tokens", json={"scopes": ["read"], "expires_in": "1h"}).json()
    with api.as_user(made["token"]) as client:
        assert client.get("/v1/jobs").status_code == 200
        with api.database.unit_of_work() as work:
            row = next(row for row in work.users.tokens_of(api.user_id()) if str(row.id) == made["id"])
            assert row.expires_at is not None
            row.expires_at -= timedelta(hours=2)
        assert client.get("/v1/jobs").status_code == 401
