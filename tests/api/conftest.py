"""A real API on a free port of loopback, with its own database, and ways to play the other parts."""

from __future__ import annotations

import gzip
import hashlib
import json
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import httpx
import psycopg
import pytest
import uvicorn
from psycopg import sql

from api.app import create_app
from api.settings import ApiSettings
from deploy.embedded.stack import EmbeddedServices
from jobspecs.rights import Reach
from storage.database import Database
from storage.migrate import ensure_admin, upgrade
from storage.objects import ObjectSettings, ObjectStore
from storage.settings import Settings

RunApi = Callable[..., AbstractContextManager["Api"]]
ADMIN_TOKEN = "ew_" + "a" * 43
HEADLINES = "headline,quality\n" + "".join(
    f"Headline number {i} about {'rates' if i % 2 else 'stars'},{'good' if i % 2 else 'bad'}\n" for i in range(20)
)


@dataclass
class Api:
    """A running API as one user sees it, and the parts behind it. Every test has a user of its own."""

    url: str
    settings: ApiSettings
    user: str
    client: httpx.Client
    admin: httpx.Client
    database: Database

    @contextmanager
    def as_user(self, token: str | None) -> Iterator[httpx.Client]:
        with _client(self.url, token) as client:
            yield client

    def new_user(self, *scopes: str, name: str | None = None) -> str:
        """Makes a user and gives a token with these scopes (`write` unless told)."""
        return make_user(self.admin, name or f"user-{secrets.token_hex(4)}", *scopes)

    def user_id(self) -> UUID:
        return UUID(self.client.get("/v1/users/me").json()["id"])

    def reach(self) -> Reach:
        """What the user has, for looks past the API."""
        return Reach.of(self.user_id())

    def objects(self) -> ObjectStore:
        """The store, past the API."""
        storage = self.settings.storage
        return ObjectStore(
            ObjectSettings(storage.s3_endpoint, storage.s3_access_key, storage.s3_secret_key, storage.s3_bucket)
        )

    def push(self, name: str = "headlines", content: str = HEADLINES, file_name: str = "headlines.csv") -> Any:
        answer = self.client.put(f"/v1/datasets/{name}", params={"file_name": file_name}, content=content.encode())
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def import_model(self, name: str = "tiny", files: Mapping[str, bytes] | None = None) -> Any:
        """Imports a model with small weights unless `files` has others; returns the version."""
        answer = self.client.post("/v1/registry/imports", json={"name": name})
        import_id = answer.json()["id"]
        content = {"model.safetensors": safetensors(), "config.json": b'{"model_type": "bert"}', **(files or {})}
        for path, body in content.items():
            sent = self.client.put(f"/v1/registry/imports/{import_id}/files/{path}", content=body)
            assert sent.status_code == 201, sent.text
        made = self.client.post(f"/v1/registry/imports/{import_id}/complete")
        assert made.status_code == 201, made.text
        return made.json()

    def submit(self, **changes: Any) -> Any:
        answer = self.client.post("/v1/jobs", json={**SPEC, **changes})
        assert answer.status_code == 201, answer.text
        return answer.json()


def make_user(admin: httpx.Client, name: str, *scopes: str) -> str:
    assert admin.post("/v1/users", json={"name": name}).status_code == 201
    answer = admin.post(f"/v1/users/{name}/tokens", json={"scopes": list(scopes) or ["write"]})
    assert answer.status_code == 201, answer.text
    token: str = answer.json()["token"]
    return token


def _client(url: str, token: str | None) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=PATIENCE_S)


#: How long an answer may take before it counts as one that never comes. Confined readings have the lowest priority:
#: on a machine that trains on both cores, half a second of theirs took 25 s.
PATIENCE_S = 120

SPEC: dict[str, Any] = {
    "kind": "train-classifier",
    "name": "headline-quality",
    "model": "tiny",
    "dataset": "headlines",
    "text": "headline",
    "label": "quality",
}


def safetensors(values: int = 16) -> bytes:
    """A file with one tensor of float32."""
    data = struct.pack(f"<{values}f", *range(values))
    header = json.dumps({"w": {"dtype": "F32", "shape": [values], "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def gzipped(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)


@pytest.fixture(scope="session")
def api_settings(
    services: EmbeddedServices, object_settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> ApiSettings:
    """One database for all tests of the API: what a user has is nobody else's, so tests don't meet in it."""
    name = f"api_{secrets.token_hex(4)}"
    with psycopg.connect(services.database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    database_url = urlunsplit(urlsplit(services.database_url)._replace(path=f"/{name}"))
    upgrade(database_url)
    ensure_admin(database_url, ADMIN_TOKEN)
    storage = Settings(
        database_url=database_url,
        redis_url=services.redis_url,
        s3_endpoint=object_settings["endpoint_url"],
        s3_access_key=object_settings["access_key"],
        s3_secret_key=object_settings["secret_key"],
        s3_bucket=object_settings["bucket"],
        secrets_key=secrets.token_urlsafe(32),
    )
    spool = tmp_path_factory.mktemp("spool")
    return ApiSettings(storage=storage, spool_dir=spool, watch_poll_s=0.2, webhook_test_s=0.2, hub_offline=True)


@pytest.fixture(scope="session")
def run_api(api_settings: ApiSettings) -> RunApi:
    """Starts an API with changed settings: `with run_api(keep_alive_s=0.1) as api`."""

    @contextmanager
    def run(**changes: Any) -> Iterator[Api]:
        settings = replace(api_settings, **changes)
        server = uvicorn.Server(
            uvicorn.Config(create_app(settings), log_config=None, access_log=False, timeout_graceful_shutdown=1)
        )
        # With the protocol named asyncio sets TCP_NODELAY; without, every answer waits 40 ms for a delayed ACK.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        # From now on connections wait until the thread takes them, instead of being refused until it has started.
        listener.listen()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            with _seen_by_a_new_user(f"http://127.0.0.1:{listener.getsockname()[1]}", settings) as api:
                yield api
        finally:
            server.should_exit = True
            thread.join(timeout=PATIENCE_S)
            listener.close()
            assert not thread.is_alive()

    return run


@contextmanager
def _seen_by_a_new_user(url: str, settings: ApiSettings) -> Iterator[Api]:
    database = Database(settings.storage.database_url, connections_max=2)
    user = f"user-{secrets.token_hex(4)}"
    try:
        with _client(url, ADMIN_TOKEN) as admin, _client(url, make_user(admin, user)) as client:
            yield Api(url, settings, user, client, admin, database)
    finally:
        database.close()


@pytest.fixture(scope="session")
def _shared_api(run_api: RunApi) -> Iterator[Api]:
    with run_api() as api:
        yield api


@pytest.fixture
def api(_shared_api: Api) -> Iterator[Api]:
    with _seen_by_a_new_user(_shared_api.url, _shared_api.settings) as api:
        yield api


@pytest.fixture(scope="module")
def module_api(_shared_api: Api) -> Iterator[Api]:
    """As `api`, of one user for all tests of a file: for what is costly to make and only read."""
    with _seen_by_a_new_user(_shared_api.url, _shared_api.settings) as api:
        yield api


@pytest.fixture
def ready(api: Api) -> Api:
    """An API whose user has a data set and a model."""
    api.push()
    api.import_model()
    return api
