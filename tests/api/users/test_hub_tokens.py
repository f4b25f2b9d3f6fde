"""Users' own tokens of a model hub: sealed, shown to nobody, and used for their owner's imports alone."""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID

import pytest

from api.settings import ApiSettings
from storage.hub_tokens import hub_token
from storage.secret_box import SecretBox, SecretUnreadable
from tests.api.conftest import Api, RunApi

PATH = "/v1/users/me/hub-token"
TOKEN = "hf_" + "s" * 33 + "wxyz"
IMPORT = {"kind": "import-model", "name": "mine", "model": "hub:org/private"}


class _Hub(BaseHTTPRequestHandler):
    """Shows org/private to whoever has TOKEN."""

    seen: list[str | None] = []  # noqa: RUF012 - emptied by the fixture

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization"))
        mine = self.seen[-1] == f"Bearer {TOKEN}"
        files = [{"rfilename": "model.safetensors", "size": 1000}]
        document = {"sha": "a" * 40, "id": "org/private", "siblings": files}
        content = json.dumps(document if mine else {}).encode()
        self.send_response(200 if mine and "/api/" in self.path else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    _Hub.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def token_of(api: Api) -> str:
    return str(api.client.headers["Authorization"]).removeprefix("Bearer ")


def test_a_token_is_shown_by_its_last_characters_and_stands_nowhere(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert api.client.get(PATH).status_code == 404
    answer = api.client.put(PATH, json={"token": TOKEN})
    assert (answer.status_code, answer.json()["hint"], answer.json()["readable"]) == (200, "wxyz", True)
    for told in (answer, api.client.get(PATH), api.client.put(PATH, json={"token": TOKEN, "more": 1})):
        assert TOKEN not in told.text
    for refused in ("short", TOKEN + " " + TOKEN, {"a": TOKEN}):
        told = api.client.put(PATH, json={"token": refused})
        assert (told.status_code, TOKEN in told.text) == (422, False)
    with api.database.unit_of_work() as work:
        row = work.hub_tokens.get(api.user_id())
        assert row is not None
        assert TOKEN.encode() not in row.sealed
    assert TOKEN not in caplog.text
    with api.as_user(api.new_user()) as other:
        assert other.get(PATH).status_code == 404
    with api.as_user(api.new_user("read")) as reader:
        assert reader.put(PATH, json={"token": TOKEN}).status_code == 403
    assert [api.client.delete(PATH).status_code for _ in range(2)] == [204, 404]


def test_only_its_owners_imports_are_asked_for_with_it(api: Api, hub: str, run_api: RunApi) -> None:
    assert api.client.put(PATH, json={"token": TOKEN}).status_code == 200
    with run_api(hub_endpoint=hub, hub_offline=False) as online:
        with online.as_user(api.new_user()) as other:
            refused = other.post("/v1/jobs", json=IMPORT)
            assert (refused.status_code, "eigenwerk tokens hub set" in refused.text) == (422, True)
        assert set(_Hub.seen) == {None}
        with online.as_user(token_of(api)) as owner:
            job = owner.post("/v1/jobs", json=IMPORT)
            assert job.status_code == 201, job.text
            assert TOKEN not in job.text + owner.get(f"/v1/jobs/{job.json()['id']}").text
        assert f"Bearer {TOKEN}" in _Hub.seen
    with api.database.unit_of_work() as work:
        (row,) = work.jobs.list(api.reach())
        assert TOKEN not in json.dumps([row.spec, row.inputs])


def test_with_another_key_it_can_not_be_read_and_is_set_anew(
    api: Api, run_api: RunApi, api_settings: ApiSettings, caplog: pytest.LogCaptureFixture
) -> None:
    assert api.client.put(PATH, json={"token": TOKEN}).status_code == 200
    for key, code in ((secrets.token_urlsafe(32), 200), (None, 409)):
        storage = replace(api_settings.storage, secrets_key=key)
        with run_api(storage=storage) as there, there.as_user(token_of(api)) as client:
            assert client.get(PATH).json()["readable"] is False
            assert client.put(PATH, json={"token": TOKEN}).status_code == code
    assert "is not used" in caplog.text


def test_what_is_sealed_for_one_owner_opens_for_no_other(api: Api, api_settings: ApiSettings) -> None:
    box = api_settings.storage.secret_box()
    assert box is not None
    assert api.client.put(PATH, json={"token": TOKEN}).status_code == 200
    with api.as_user(api.new_user()) as other:
        other_id = UUID(other.get("/v1/users/me").json()["id"])
        with api.database.unit_of_work() as work:
            row = work.hub_tokens.get(api.user_id())
            assert row is not None
            assert hub_token(work, box, api.user_id()) == TOKEN
            work.hub_tokens.put(other_id, row.sealed, row.hint)
            assert hub_token(work, box, other_id) is None
    with pytest.raises(SecretUnreadable):
        box.open(api.user_id(), b"short")
    with pytest.raises(ValueError, match="32 random bytes"):
        SecretBox("too short")
