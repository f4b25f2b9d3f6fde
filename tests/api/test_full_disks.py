"""A disk that is full is named as what it is: 507, what is full, and what to do; nothing is half done."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

import httpx
import pytest
from sqlalchemy import text

from storage.database import Database, DatabaseFull
from tests.api.conftest import HEADLINES, Api, RunApi
from tests.loopback import serving


@contextmanager
def full_store(code: str, status: int) -> Iterator[str]:
    """An S3 server that takes nothing."""

    class Full(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = f"<Error><Code>{code}</Code></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not on stderr."""

    with serving(Full) as url:
        yield url


def push(client: httpx.Client) -> httpx.Response:
    return client.put("/v1/datasets/headlines", params={"file_name": "h.csv"}, content=HEADLINES.encode())


@pytest.mark.parametrize(("code", "status"), [("InsufficientStorage", 507), ("QuotaExceeded", 403)])
def test_a_full_object_store_is_named(run_api: RunApi, api: Api, code: str, status: int) -> None:
    with (
        full_store(code, status) as endpoint,
        run_api(storage=replace(api.settings.storage, s3_endpoint=endpoint)) as on,
    ):
        answer = push(on.client)
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "object_store_full")
        assert "Delete" in answer.json()["error"]["message"]
        assert on.client.get("/v1/datasets").json()["data"] == []


def test_a_full_spool_disk_is_named(run_api: RunApi, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) == len(HEADLINES):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    with run_api() as api:
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            answer = push(api.client)
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
        assert "EIGENWERK_SPOOL_DIR" in answer.json()["error"]["message"]
        assert push(api.client).status_code == 201


def test_a_full_disk_of_postgresql_is_named(database_url: str) -> None:
    database = Database(database_url)
    statement = text("DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$")
    with pytest.raises(DatabaseFull, match="disk is full"), database.unit_of_work() as work:
        work.session.execute(statement)
    database.close()
