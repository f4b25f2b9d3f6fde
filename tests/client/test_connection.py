from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.embedded.processes import free_port
from eigenwerk import Client, EigenwerkError, find_connection
from tests.certificates import certificate_in
from tests.client.answering import Sleeps
from tests.client.documents import JOB_ID
from tests.client.stub import StubPlatform


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "platform.json").write_text(json.dumps({"url": "http://127.0.0.1:8480", "token": "ew_local", "pid": 1}))
    return tmp_path


def test_the_environment_names_the_platform(home: Path) -> None:
    found = find_connection(
        {"EIGENWERK_URL": "https://e.test/", "EIGENWERK_TOKEN": "ew_x", "EIGENWERK_HOME": str(home)}
    )
    assert (found.url, found.token) == ("https://e.test", "ew_x")
    assert "ew_x" not in repr(found)


def test_the_platform_of_this_machine_is_found_without_the_environment(home: Path) -> None:
    found = find_connection({"EIGENWERK_HOME": str(home)})
    assert (found.url, found.token) == ("http://127.0.0.1:8480", "ew_local")


def test_the_token_of_this_machine_is_never_sent_to_another_address(home: Path) -> None:
    with pytest.raises(EigenwerkError, match="EIGENWERK_TOKEN"):
        find_connection({"EIGENWERK_URL": "https://e.test", "EIGENWERK_HOME": str(home)})
    local = find_connection({"EIGENWERK_URL": "http://127.0.0.1:8480", "EIGENWERK_HOME": str(home)})
    assert local.token == "ew_local"


@pytest.mark.parametrize("name", ["EIGENWERK_TOKEN", "EIGENWERK_URL"])
@pytest.mark.parametrize("value", ["", " "])
def test_a_variable_that_is_set_but_empty_is_refused_and_does_not_mean_the_administrator(
    home: Path, name: str, value: str
) -> None:
    with pytest.raises(EigenwerkError, match=f"{name} is set but empty"):
        find_connection({name: value, "EIGENWERK_HOME": str(home)})


def test_without_any_platform_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(EigenwerkError, match="eigenwerk up"):
        find_connection({"EIGENWERK_HOME": str(tmp_path)})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxy_never_sees_the_token_of_this_machine(
    host: str, platform: StubPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead_through_a_proxy(monkeypatch, f"http://127.0.0.1:{free_port()}")
    platform.answers["GET /v1/users/me"] = (200, {"id": JOB_ID, "name": "ada", "scopes": ["read"]})
    with Client(platform.url.replace("127.0.0.1", host), "ew_local") as client:
        assert client.me().name == "ada"


def test_a_platform_elsewhere_is_reached_through_the_proxy(
    platform: StubPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead_through_a_proxy(monkeypatch, platform.url)
    with Client("http://platform.test", "ew_x") as client, pytest.raises(EigenwerkError):
        client.me()
    (request,) = platform.requests
    assert request.headers["Host"] == "platform.test"


def lead_through_a_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in ("no_proxy", "NO_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, url)


def test_the_environment_says_which_certificate_this_machines_own_platform_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = certificate_in(tmp_path / "ours", "127.0.0.1")
    others, _ = certificate_in(tmp_path / "others", "127.0.0.1")
    stub = StubPlatform({"GET /v1/users/me": (200, {"id": JOB_ID, "name": "ada", "scopes": ["read"]})})
    server = stub.start(certificate, key)
    try:
        monkeypatch.setenv("SSL_CERT_FILE", str(others))
        sleeps = Sleeps()
        untrusting = Client(stub.url, "ew_local", sleep=sleeps)
        with untrusting as client, pytest.raises(EigenwerkError, match=r"SSL_CERT_FILE=cert\.pem"):
            client.me()
        assert sleeps == [], "it is the same a little later"
        assert stub.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with Client(stub.url, "ew_local") as client:
            assert client.me().name == "ada"
    finally:
        server.shutdown()
        server.server_close()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "platform.json").write_text("{")
    with pytest.raises(EigenwerkError, match="damaged"):
        find_connection({"EIGENWERK_HOME": str(tmp_path)})
