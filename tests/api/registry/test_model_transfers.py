"""Models in and out: only what is missing is sent, what was cut goes on, and nobody gets another's bytes."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.object_links import SharedFile
from eigenwerk import Client, EigenwerkError
from jobspecs.pieces import MIB, piece_sizes
from tests.api.conftest import Api, safetensors, sha256

WEIGHTS = "model.safetensors"


def tensors(path: Path, contents: Sequence[bytes]) -> None:
    header, at = {}, 0
    for number, content in enumerate(contents):
        header[f"layer.{number:02d}"] = {
            "dtype": "U8",
            "shape": [len(content)],
            "data_offsets": [at, at + len(content)],
        }
        at += len(content)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(contents))


class Wire(httpx.HTTPTransport):
    """Counts the bytes that are sent as pieces, and breaks off after so many."""

    def __init__(self, breaks_after: float = float("inf")) -> None:
        super().__init__()
        self.sent = 0
        self.fetched: list[str] = []
        self.refused_hosts: set[str] = set()
        self._breaks_after = breaks_after

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.netloc.decode() in self.refused_hosts:
            raise httpx.ConnectError("out of reach")
        if request.method == "GET":
            self.fetched.append(str(request.url))
        if "/pieces/" not in request.url.path:
            return super().handle_request(request)
        request.stream = _Counted(self, request.stream, self._breaks_after)
        return super().handle_request(request)


class _Counted(httpx.SyncByteStream):
    def __init__(self, wire: Wire, stream: Any, breaks_after: float) -> None:
        self._wire, self._stream, self._breaks_after = wire, stream, breaks_after

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            if self._wire.sent >= self._breaks_after:
                raise httpx.WriteError("the line is cut")
            self._wire.sent += len(chunk)
            yield chunk


def client_of(api: Api, wire: Wire, token: str | None = None) -> Client:
    token = token or api.client.headers["Authorization"].removeprefix("Bearer ")
    return Client(api.url, token, http=wire, sleep=lambda _: None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """20 tensors of 2 MiB: seven pieces."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    tensors(folder / WEIGHTS, [os.urandom(2 * MIB) for _ in range(20)])
    return folder


def change_one_tensor(model: Path) -> None:
    content = bytearray((model / WEIGHTS).read_bytes())
    content[-10 * MIB] ^= 1
    (model / WEIGHTS).write_bytes(content)


def test_a_version_that_differs_in_one_tensor_sends_about_that_much(api: Api, model: Path, tmp_path: Path) -> None:
    size = (model / WEIGHTS).stat().st_size
    first, second = Wire(), Wire()
    with client_of(api, first) as client:
        assert client.import_model(model, name="m").version == 1
    change_one_tensor(model)
    with client_of(api, second) as client:
        assert client.import_model(model, name="m").version == 2
        client.download("m@2", tmp_path / "got")
    assert first.sent == size
    assert 0 < second.sent <= 0.16 * size
    assert (tmp_path / "got" / WEIGHTS).read_bytes() == (model / WEIGHTS).read_bytes()


@pytest.mark.parametrize("cut_at", [0, 1, 17 * MIB + 3, 39 * MIB])
def test_a_push_that_was_cut_goes_on_where_it_stopped(api: Api, model: Path, cut_at: int) -> None:
    size = (model / WEIGHTS).stat().st_size
    cut, again = Wire(breaks_after=cut_at), Wire()
    with client_of(api, cut) as client, pytest.raises(EigenwerkError):
        client.import_model(model, name="m")
    assert api.client.get("/v1/registry/models").json()["data"] == [], "nothing is half registered"
    with client_of(api, again) as client:
        assert client.import_model(model, name="m").version == 1
    # Four pieces are on their way at once; what of them had not arrived is sent again.
    assert again.sent <= size - max(0, cut_at - 4 * max(piece_sizes(model / WEIGHTS)))


def test_a_push_made_again_is_the_version_that_it_became_for_a_client_that_never_heard(api: Api) -> None:
    files = {"model.safetensors": safetensors(), "config.json": b"{}"}
    first = api.import_model(files=files)
    import_id = api.client.post("/v1/registry/imports", json={"name": "tiny"}).json()["id"]
    for path, content in files.items():
        assert api.client.put(f"/v1/registry/imports/{import_id}/files/{path}", content=content).status_code == 201
    again = [api.client.post(f"/v1/registry/imports/{import_id}/complete") for _ in range(2)]
    assert [answer.status_code for answer in again] == [200, 200], [answer.text for answer in again]
    assert [answer.json() for answer in again] == [first, first]
    assert api.import_model(files={"README.md": b"other"})["version"] == 2
    assert api.import_model(files=files)["version"] == 3, "going back is a change as well"


def test_nobody_gets_what_others_have_by_naming_its_sum(api: Api, model: Path) -> None:
    with client_of(api, Wire()) as client:
        client.import_model(model, name="m")
    content = (model / WEIGHTS).read_bytes()
    pieces, at = [], 0
    for size in piece_sizes(model / WEIGHTS):
        pieces.append({"bytes": size, "sha256": sha256(content[at : at + size])})
        at += size
    whole = {"bytes": len(content), "sha256": sha256(content), "pieces": pieces}
    with api.as_user(api.new_user()) as thief:
        opened = f"/v1/registry/imports/{thief.post('/v1/registry/imports', json={'name': 'x'}).json()['id']}"
        missing = thief.post(f"{opened}/pieces", json={"pieces": pieces}).json()["missing"]
        assert missing == [piece["sha256"] for piece in pieces]
        refused = thief.post(f"{opened}/files/{WEIGHTS}", json=whole)
        assert refused.status_code == 422 and "were not sent" in refused.text
        assert thief.post(f"{opened}/complete").status_code == 422
        stranger = api.client.post(f"{opened}/pieces", json={"pieces": pieces})
        assert stranger.status_code == 404


def test_a_file_of_pieces_must_be_what_it_is_said_to_be(api: Api, model: Path) -> None:
    parts = [os.urandom(5 * MIB), b"not safetensors at all"]
    opened = f"/v1/registry/imports/{api.client.post('/v1/registry/imports', json={'name': 'x'}).json()['id']}"
    pieces = [{"bytes": len(part), "sha256": sha256(part)} for part in parts]
    assert api.client.put(f"{opened}/pieces/{'0' * 64}", content=b"other").status_code == 422
    for part in parts:
        assert api.client.put(f"{opened}/pieces/{sha256(part)}", content=part).status_code == 201
    told = {"bytes": 5 * MIB + 22, "sha256": sha256(b"".join(parts)), "pieces": pieces}
    for change, said in (
        ({"sha256": "0" * 64}, "another sha256"),
        ({"bytes": 7}, "not 7"),
        ({"pieces": pieces[::-1]}, "too small"),
        ({}, "safetensors header"),
    ):
        refused = api.client.post(f"{opened}/files/{WEIGHTS}", json={**told, **change})
        assert (refused.status_code, said in refused.text) == (422, True), refused.text
    for path in ("pytorch_model.bin", "../config.json", "manifest.json"):
        assert api.client.post(f"{opened}/files/{path}", json=told).status_code in (404, 405, 422)
    assert api.client.post(f"{opened}/complete").status_code == 422


def url_of(api: Api, path: str = WEIGHTS) -> str:
    return f"{api.url}/v1/registry/models/{api.user}/m/versions/1/files/{path}"


@pytest.fixture
def pushed(api: Api, model: Path) -> Path:
    with client_of(api, Wire()) as client:
        client.import_model(model, name="m")
    return model


@pytest.mark.parametrize(
    "program", [["curl", "-sSL", "-C", "-", "-o"], ["wget", "-q", "-c", "-O"]], ids=["curl", "wget"]
)
def test_curl_and_wget_go_on_with_the_plain_url(api: Api, pushed: Path, tmp_path: Path, program: list[str]) -> None:
    content, target = (pushed / WEIGHTS).read_bytes(), tmp_path / "got"
    target.write_bytes(content[: 13 * MIB + 7])
    header = ["-H" if program[0] == "curl" else "--header", f"Authorization: {api.client.headers['Authorization']}"]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    try:
        subprocess.run([*program, str(target), *header, url_of(api)], check=True, timeout=60, env=environment)
    except FileNotFoundError:
        pytest.skip(f"{program[0]} is not on this machine")
    assert target.read_bytes() == content


def test_the_store_moves_the_bytes_for_who_can_reach_it_and_the_api_for_the_others(
    api: Api, pushed: Path, run_api: Callable[..., Any]
) -> None:
    content = (pushed / WEIGHTS).read_bytes()
    answer = api.client.get(url_of(api), headers={"Range": "bytes=5-9"})
    assert answer.status_code == 302 and answer.headers["X-Content-SHA256"] == sha256(content)
    assert answer.headers["Location"].startswith(api.settings.storage.s3_endpoint)
    behind = api.client.get(url_of(api), headers={"Range": "bytes=5242870-5242890", "X-Forwarded-For": "203.0.113.9"})
    assert (behind.status_code, behind.content) == (206, content[5242870:5242891])
    assert api.client.get(url_of(api), params={"redirect": "false"}).content == content
    parts = api.client.get(url_of(api).replace("/files/", "/parts/"), headers={"Via": "1.1 proxy"}).json()["parts"]
    assert len(parts) == 7 and not any(part["url"] for part in parts)
    with run_api(s3_public_endpoint="https://s3.example") as public:
        public.import_model("m")
        far = public.client.get(url_of(public), headers={"X-Forwarded-For": "203.0.113.9"})
        assert far.headers["Location"].startswith("https://s3.example/")


def test_a_link_gives_one_file_to_anybody_until_it_expires(api: Api, pushed: Path) -> None:
    with client_of(api, Wire()) as client:
        link = client.file_link("m@1", "config.json", expires_s=60)
        with pytest.raises(EigenwerkError, match=r"604800"):
            client.file_link("m@1", "config.json", expires_s=8 * 24 * 3600)
        with pytest.raises(EigenwerkError, match="nothing"):
            client.file_link("m@1", "nothing")
    with client_of(api, Wire(), api.new_user()) as stranger, pytest.raises(EigenwerkError):
        stranger.file_link(f"{api.user}/m@1", "config.json")
    with httpx.Client(trust_env=False, follow_redirects=True) as anybody:
        assert anybody.get(link.url).content == (pushed / "config.json").read_bytes()
        asked = anybody.head(link.url)
        assert (asked.status_code, asked.headers["Content-Length"]) == (200, str(link.bytes))
        assert anybody.get(f"{link.url[:-3]}AAA").status_code == 404
        assert anybody.get(f"{api.url}/v1/links/made-up").status_code == 404
        row = api.client.get(f"/v1/registry/models/{api.user}/m/versions/1").json()
        with api.database.unit_of_work() as work:
            version_id = work.models.list_versions(api.reach())[0].id
        old = SharedFile(version_id, "config.json", int(time.time()) - 1).sealed(api.settings)
        expired = anybody.get(f"{api.url}/v1/links/{old}")
        assert (expired.status_code, expired.json()["error"]["code"]) == (410, "link_expired")
        assert row["version"] == 1
        assert api.client.delete(f"/v1/registry/models/{api.user}/m").status_code == 200
        assert anybody.get(link.url).status_code == 404


def test_a_pull_takes_parts_from_the_store_and_goes_on_where_it_was_cut(api: Api, pushed: Path, tmp_path: Path) -> None:
    content, wire = (pushed / WEIGHTS).read_bytes(), Wire()
    target = tmp_path / "got"
    target.mkdir()
    draft = target / f".{WEIGHTS}.{sha256(content)[:16]}.part"
    # As a pull leaves it that is killed: a part in the middle is whole, another half.
    draft.write_bytes(bytes(6 * MIB) + content[6 * MIB : 20 * MIB])
    with client_of(api, wire) as client:
        counted: list[int] = []
        client.download("m@1", target, progress=counted.append)
    assert (target / WEIGHTS).read_bytes() == content
    assert sum(counted) == len(content) + (pushed / "config.json").stat().st_size
    from_store = [url for url in wire.fetched if url.startswith(api.settings.storage.s3_endpoint)]
    assert 4 <= len(from_store) <= 6, "what was there isn't fetched again"
    assert sorted(path.name for path in target.iterdir()) == ["config.json", "manifest.json", WEIGHTS]


def test_a_pull_without_the_store_in_reach_comes_by_the_api(api: Api, pushed: Path, tmp_path: Path) -> None:
    wire = Wire()
    wire.refused_hosts.add(api.settings.storage.s3_endpoint.removeprefix("http://"))
    with client_of(api, wire) as client:
        client.download("m@1", tmp_path / "got")
    assert (tmp_path / "got" / WEIGHTS).read_bytes() == (pushed / WEIGHTS).read_bytes()


def test_an_export_has_the_checksums_of_its_files_and_is_imported_again(api: Api, pushed: Path, tmp_path: Path) -> None:
    tar = tmp_path / "m.tar"
    with client_of(api, Wire()) as client:
        client.export_model("m@1", tar)
        with tarfile.open(tar) as archive:
            archive.extractall(tmp_path / "unpacked", filter="data")
        (folder,) = (tmp_path / "unpacked").iterdir()
        assert folder.name == "m-v1", "nothing is spilt where it is unpacked"
        for line in (folder / "SHA256SUMS").read_text().splitlines():
            digest, _, name = line.partition("  ")
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        with tarfile.open(tmp_path / "earlier.tar", "w") as archive:
            archive.add(folder, ".")
        assert client.import_model(tmp_path / "earlier.tar", name="moved").digest == client.model_version("m@1").digest
        again = client.import_model(tar, name="m")
        assert (again.version, again.digest) == (1, client.model_version("m@1").digest)
        tar.write_bytes(tar.read_bytes()[: 20 * MIB])
        with pytest.raises(EigenwerkError, match="tar"):
            client.import_model(tar, name="m")


def test_a_small_model_goes_as_it_always_did(api: Api, tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes(safetensors())
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    wire = Wire()
    with client_of(api, wire) as client:
        assert client.import_model(tmp_path, name="m").bytes == len(safetensors()) + 22
    assert wire.sent == 0
