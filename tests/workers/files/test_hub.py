"""A hub of a few files on loopback: enough of the protocol for a download at a commit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest

from jobspecs.frozen import FrozenHubModel
from jobspecs.lifecycle import Reason
from storage.objects import ObjectSettings, ObjectStore
from tests.loopback import serving
from workers.files.host_cache import HostCache
from workers.files.hub import HubAccess, HubUnavailable, fetch_snapshot
from workers.run.context import RunFailed

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORIES = {
    "org/good": {
        "config.json": b'{"model_type": "bert"}',
        "model.safetensors": b"weights",
        "vocab.txt": b"a\nb\n",
        "pytorch_model.bin": b"a pickle",
        "modeling_custom.py": b"raise SystemExit",
        "onnx/model.json": b"{}",
    },
    "org/quantized": {"README.md": b"x", "tiny.Q4_0.gguf": b"GGUF four", "tiny.Q8_0.gguf": b"GGUF eight"},
    "org/private": {"config.json": b"{}", "model.safetensors": b"private weights"},
    "org/pickles": {"config.json": b"{}", "pytorch_model.bin": b"a pickle"},
}


def large(content: bytes) -> dict[str, object]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}


class _Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: list[str] = []  # noqa: RUF012 - one server per test, emptied by the fixture
    fetched: list[str] = []  # noqa: RUF012
    tokens: list[str | None] = []  # noqa: RUF012
    #: Who may see org/private, and the other host that has its weights.
    opening = "Bearer hf_of_ada_0123456789"
    elsewhere: str | None = None
    #: The next body of weights arrives with another last byte.
    damages = False

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        if body:
            self.fetched.append(path)
        self.tokens.append(self.headers.get("Authorization"))
        if "org/private" in path and self.headers.get("Authorization") != self.opening:
            self._send(404, b"{}", body=body)
            return
        if path.startswith("/org/private/resolve") and path.endswith(".safetensors") and self.elsewhere:
            content = REPOSITORIES["org/private"]["model.safetensors"]
            self.send_response(302)
            self.send_header("Location", f"{self.elsewhere}/org/good/resolve/{COMMIT}/stored")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        for name, files in REPOSITORIES.items():
            if path == f"/api/models/{name}/revision/{COMMIT}":
                siblings = [
                    {"rfilename": file, "size": len(content)}
                    | ({"lfs": large(content)} if file.endswith(".safetensors") else {})
                    for file, content in files.items()
                ]
                document = {"id": name, "sha": COMMIT, "siblings": siblings, "private": False}
                self._send(200, json.dumps(document).encode(), body=body)
                return
            if path == f"/api/models/{name}/tree/{COMMIT}":
                tree = [
                    {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha256(content).hexdigest()}
                    for file, content in files.items()
                ]
                self._send(200, json.dumps(tree).encode(), body=body)
                return
            for file, content in files.items():
                if path == f"/{name}/resolve/{COMMIT}/{file}":
                    damaged = body and file == "model.safetensors" and _Hub.damages
                    _Hub.damages = _Hub.damages and not damaged
                    self._send(200, content, body=body and not damaged)
                    if damaged:
                        self.wfile.write(content[:-1] + b"?")
                    return
        self._send(404, b"{}", body=body)

    def _send(self, status: int, content: bytes, *, body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test's output is not the place."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    _Hub.asked.clear()
    _Hub.tokens.clear()
    _Hub.fetched.clear()
    with serving(_Hub) as url:
        yield url


def test_only_weights_and_plain_files_are_fetched(endpoint: str, tmp_path: Path) -> None:
    folder = fetch_snapshot(FrozenHubModel(repository="org/good", revision=COMMIT), tmp_path, endpoint=endpoint)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"config.json", "model.safetensors", "vocab.txt"}
    assert not [path for path in _Hub.asked if path.endswith((".bin", ".py"))]


def test_the_workers_own_token_is_not_lent_to_users_unless_it_is_meant_for_all(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    model = FrozenHubModel(repository="org/good", revision=COMMIT)
    fetch_snapshot(model, tmp_path / "one", endpoint=endpoint)
    assert set(_Hub.tokens) == {None}
    monkeypatch.setenv("EIGENWERK_HUB_TOKEN_FOR_ALL", "1")
    fetch_snapshot(model, tmp_path / "two", endpoint=endpoint)
    assert "Bearer hf_secret" in _Hub.tokens


def test_a_snapshot_is_kept_by_sha256_checked_on_each_use_and_fetched_again_when_damaged(
    endpoint: str, tmp_path: Path, object_settings: dict[str, str]
) -> None:
    store = ObjectStore(ObjectSettings(**object_settings))  # type: ignore[arg-type]
    cache = HostCache(tmp_path / "cache", store, bytes_max=1 << 20)

    def place(name: str, address: str) -> dict[str, bytes]:
        folder = tmp_path / name
        model = FrozenHubModel(repository="org/good", revision=COMMIT)
        cache.place_hub_model(model, folder, should_stop=lambda: False, endpoint=address)
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    nowhere = "http://127.0.0.1:9"
    expected = {name: REPOSITORIES["org/good"][name] for name in ("config.json", "model.safetensors", "vocab.txt")}
    assert place("first", endpoint) == expected
    assert place("second", nowhere) == expected
    assert not list((tmp_path / "cache" / "incoming").iterdir())
    cached = tmp_path / "cache" / "sha256" / hashlib.sha256(b"weights").hexdigest()
    cached.chmod(0o644)
    cached.write_bytes(b"w3ights")
    assert place("third", endpoint) == expected
    for name in ("first", "second", "third"):
        shutil.rmtree(tmp_path / name)
    HostCache(tmp_path / "cache", store, bytes_max=0).trim()
    assert not list((tmp_path / "cache" / "sha256").iterdir())
    assert place("fourth", endpoint) == expected
    store.close()


def test_a_repository_without_safetensors_is_refused(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(RunFailed) as refused:
        fetch_snapshot(FrozenHubModel(repository="org/pickles", revision=COMMIT), tmp_path, endpoint=endpoint)
    assert refused.value.reason is Reason.invalid_model


def test_of_a_repository_with_ggufs_only_the_chosen_one_is_fetched(endpoint: str, tmp_path: Path) -> None:
    model = FrozenHubModel(repository="org/quantized", revision=COMMIT, gguf="tiny.Q8_0.gguf")
    folder = fetch_snapshot(model, tmp_path, endpoint=endpoint)
    assert [path.name for path in folder.iterdir()] == ["tiny.Q8_0.gguf"]


def test_an_unknown_repository_is_the_users_mistake(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(RunFailed) as refused:
        fetch_snapshot(FrozenHubModel(repository="org/unknown", revision=COMMIT), tmp_path, endpoint=endpoint)
    assert refused.value.reason is Reason.invalid_model


def test_a_hub_that_does_not_answer_is_told_apart(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(HubUnavailable):
        fetch_snapshot(FrozenHubModel(repository="org/good", revision=COMMIT), tmp_path, endpoint="http://127.0.0.1:9")


def test_a_file_that_arrived_damaged_from_the_hub_is_fetched_anew(
    endpoint: str, tmp_path: Path, object_settings: dict[str, str]
) -> None:
    """The hub's client takes whatever has the right length."""
    store = ObjectStore(ObjectSettings(**object_settings))  # type: ignore[arg-type]
    cache = HostCache(tmp_path / "cache", store, bytes_max=1 << 20)
    model = FrozenHubModel(repository="org/good", revision=COMMIT)
    _Hub.damages = True
    with pytest.raises(HubUnavailable, match="sha256"):
        cache.place_hub_model(model, tmp_path / "first", should_stop=lambda: False, endpoint=endpoint)
    cache.place_hub_model(model, tmp_path / "second", should_stop=lambda: False, endpoint=endpoint)
    assert (tmp_path / "second" / "model.safetensors").read_bytes() == b"weights"


class _Storage(BaseHTTPRequestHandler):
    """Another host, which the hub sends clients to for large files."""

    protocol_version = "HTTP/1.1"
    headers_seen: list[dict[str, str]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.headers_seen.append({name.lower(): value for name, value in self.headers.items()})
        content = REPOSITORIES["org/private"]["model.safetensors"]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    _Storage.headers_seen.clear()
    server = ThreadingHTTPServer(("127.0.0.2", 0), _Storage)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.2:{server.server_address[1]}"
    monkeypatch.setattr(_Hub, "elsewhere", address)
    yield address
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_users_token_opens_what_is_kept_for_that_user_alone_and_goes_to_no_other_host(
    endpoint: str,
    elsewhere: str,
    tmp_path: Path,
    object_settings: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    store = ObjectStore(ObjectSettings(**object_settings))  # type: ignore[arg-type]
    cache = HostCache(tmp_path / "cache", store, bytes_max=1 << 20)
    model = FrozenHubModel(repository="org/private", revision=COMMIT)
    ada = HubAccess(uuid4(), _Hub.opening.removeprefix("Bearer "))
    other = HubAccess(uuid4(), "hf_of_bob_0123456789")

    def place(name: str, access: HubAccess | None) -> bytes:
        folder = tmp_path / name
        cache.place_hub_model(model, folder, should_stop=lambda: False, endpoint=endpoint, access=access)
        return (folder / "model.safetensors").read_bytes()

    assert place("adas", ada) == b"private weights"
    assert [headers.get("authorization") for headers in _Storage.headers_seen] == [None]
    # It lies on this host by now, and is hers all the same.
    for name, access in (("nobodys", None), ("bobs", other)):
        with pytest.raises(RunFailed):
            place(name, access)
    assert place("adas-again", ada) == b"private weights"
    assert len(_Storage.headers_seen) == 1
    assert ada.token not in caplog.text + repr(ada)
    assert not any(ada.token in path.read_text(errors="ignore") for path in tmp_path.rglob("*") if path.is_file())
    public = FrozenHubModel(repository="org/good", revision=COMMIT)
    _Hub.tokens.clear()
    cache.place_hub_model(public, tmp_path / "public", should_stop=lambda: False, endpoint=endpoint, access=ada)
    assert set(_Hub.tokens) == {None}


def test_what_is_here_by_its_sha256_is_not_fetched_from_the_hub_again(
    endpoint: str, tmp_path: Path, object_settings: dict[str, str]
) -> None:
    store = ObjectStore(ObjectSettings(**object_settings))  # type: ignore[arg-type]
    cache = HostCache(tmp_path / "cache", store, bytes_max=1 << 20)
    model = FrozenHubModel(repository="org/good", revision=COMMIT)
    cache.place_hub_model(model, tmp_path / "first", should_stop=lambda: False, endpoint=endpoint)
    # As another revision with the same weights would find it.
    shutil.rmtree(tmp_path / "cache" / "hub")
    cache = HostCache(tmp_path / "cache", store, bytes_max=1 << 20)
    _Hub.fetched.clear()
    cache.place_hub_model(model, tmp_path / "second", should_stop=lambda: False, endpoint=endpoint)
    assert (tmp_path / "second" / "model.safetensors").read_bytes() == b"weights"
    got = [path.rpartition("/")[2] for path in _Hub.fetched if "/resolve/" in path]
    assert sorted(got) == ["config.json", "vocab.txt"]


def test_a_download_that_broke_off_is_gone_on_with_after_a_restart_of_the_worker(
    tmp_path: Path, object_settings: dict[str, str]
) -> None:
    store = ObjectStore(ObjectSettings(**object_settings))  # type: ignore[arg-type]
    incoming = tmp_path / "cache" / "incoming"
    for name, age_s in (("org--good@1", 3600), ("org--good@2", 2 * 24 * 3600)):
        (incoming / name / "models--org--good").mkdir(parents=True)
        os.utime(incoming / name, (time.time() - age_s,) * 2)
    HostCache(tmp_path / "cache", store, bytes_max=1 << 20)
    assert [path.name for path in incoming.iterdir()] == ["org--good@1"]
