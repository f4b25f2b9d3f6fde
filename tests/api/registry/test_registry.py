from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.conftest import SPEC, Api, safetensors, sha256

WEIGHTS = safetensors(500_000)


def forged(shape: list[int]) -> bytes:
    """Weights whose header claims this shape."""
    header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"1234"


def files_url(api: Api, path: str, selector: str = "1") -> str:
    return f"/v1/registry/models/{api.user}/tiny/versions/{selector}/files/{path}?redirect=false"


def test_an_imported_model_is_listed_with_its_manifest(api: Api) -> None:
    version = api.import_model()
    assert version["reference"] == f"{api.user}/tiny@1"
    assert {file["path"] for file in version["manifest"]["files"]} == {"model.safetensors", "config.json"}
    model = api.client.get(f"/v1/registry/models/{api.user}/tiny").json()
    assert (model["aliases"], [item["version"] for item in model["versions"]]) == ({}, [1])
    assert [item["name"] for item in api.client.get("/v1/registry/models").json()["data"]] == ["tiny"]
    latest = api.client.get(f"/v1/registry/models/{api.user}/tiny/versions/latest")
    assert latest.json() == version


def test_an_imported_classifier_is_known_as_one(api: Api) -> None:
    config = json.dumps({"architectures": ["BertForSequenceClassification"]}).encode()
    assert api.import_model(files={"config.json": config})["task"] == "text-classification"


def test_an_alias_moves_between_versions(api: Api) -> None:
    api.import_model()
    api.import_model(files={"README.md": b"second"})
    url = f"/v1/registry/models/{api.user}/tiny"
    for version in (1, 2):
        assert api.client.put(f"{url}/aliases/prod", json={"version": version}).json()["version"] == version
        assert api.client.get(f"{url}/versions/prod").json()["version"] == version
    assert api.client.get(url).json()["aliases"] == {"prod": 2}
    assert api.client.put(f"{url}/aliases/prod", json={"version": 3}).status_code == 404
    for reserved in ("latest", "7", "main", "HEAD"):
        assert api.client.put(f"{url}/aliases/{reserved}", json={"version": 1}).status_code == 422


def test_an_alias_may_begin_with_digits(api: Api) -> None:
    api.import_model()
    url = f"/v1/registry/models/{api.user}/tiny"
    for alias in ("1.0", "2026-prod", "3rd"):
        assert api.client.put(f"{url}/aliases/{alias}", json={"version": 1}).status_code == 200
        assert api.client.get(f"{url}/versions/{alias}").json()["version"] == 1
    assert api.client.get(f"{url}/versions/{'9' * 20}").status_code == 422


def test_a_file_is_downloaded_whole_with_its_sum(api: Api) -> None:
    api.import_model(files={"model.safetensors": WEIGHTS})
    answer = api.client.get(files_url(api, "model.safetensors"))
    assert answer.content == WEIGHTS
    assert answer.headers["X-Content-SHA256"] == sha256(WEIGHTS)
    assert answer.headers["ETag"] == f'"{sha256(WEIGHTS)}"'
    assert answer.headers["Content-Length"] == str(len(WEIGHTS))
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    head = api.client.head(files_url(api, "model.safetensors"))
    assert (head.headers["Content-Length"], head.content) == (str(len(WEIGHTS)), b"")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=1999000-", 1_999_000, len(WEIGHTS)),
        ("bytes=-7", len(WEIGHTS) - 7, len(WEIGHTS)),
        ("bytes=100-99999999", 100, len(WEIGHTS)),
    ],
)
def test_a_range_gives_just_these_bytes(api: Api, asked: str, start: int, end: int) -> None:
    api.import_model(files={"model.safetensors": WEIGHTS})
    answer = api.client.get(files_url(api, "model.safetensors"), headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == WEIGHTS[start:end]
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(WEIGHTS)}"


def test_other_ranges_are_ignored_or_refused(api: Api) -> None:
    api.import_model()
    size = len(safetensors())
    url = files_url(api, "model.safetensors")
    for ignored in ("bytes=0-1,3-4", "lines=1-2", "bytes=5-2", "bytes=-", "bytes=a-b"):
        assert api.client.get(url, headers={"Range": ignored}).status_code == 200
    outside = api.client.get(url, headers={"Range": f"bytes={size}-"})
    assert (outside.status_code, outside.headers["Content-Range"]) == (416, f"bytes */{size}")
    changed = api.client.get(url, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert changed.status_code == 200


def test_who_has_the_file_gets_304(api: Api) -> None:
    api.import_model()
    url = files_url(api, "config.json")
    etag = api.client.get(url).headers["ETag"]
    again = api.client.get(url, headers={"If-None-Match": f'"x", {etag}'})
    assert (again.status_code, again.content) == (304, b"")


def test_a_redirect_leads_to_the_object_store_without_a_token(api: Api) -> None:
    api.import_model()
    answer = api.client.get(files_url(api, "model.safetensors").partition("?")[0])
    assert answer.status_code == 302
    assert answer.headers["X-Content-SHA256"] == sha256(safetensors())
    assert answer.headers["Cache-Control"] == "no-store"
    fetched = httpx.get(answer.headers["Location"], trust_env=False)
    assert fetched.content == safetensors()


@pytest.mark.parametrize(
    ("selector", "kept"),
    [("1", "private, max-age=31536000, immutable"), ("latest", "private, no-cache"), ("prod", "private, no-cache")],
)
def test_only_a_version_by_its_number_may_be_kept_unasked(api: Api, selector: str, kept: str) -> None:
    api.import_model()
    api.client.put(f"/v1/registry/models/{api.user}/tiny/aliases/prod", json={"version": 1})
    url = files_url(api, "config.json", selector)
    answer = api.client.get(url)
    unchanged = api.client.get(url, headers={"If-None-Match": answer.headers["ETag"]})
    assert [item.headers["Cache-Control"] for item in (answer, unchanged)] == [kept, kept]


def damage(api: Api, version: Any, path: str, change: Callable[[bytes], bytes]) -> None:
    """Changes a stored object behind the platform's back."""
    with api.database.unit_of_work() as work:
        row = work.models.list_versions(api.reach())[0]
        (key,) = (file.pieces[-1].key for file in work.blobs.files_of(row) if file.path == path)
    api.objects().put_bytes(key, change(api.objects().get_bytes(key)))


def flip(content: bytes) -> bytes:
    """The same with one bit changed, near the end."""
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


@pytest.mark.parametrize("content", [safetensors(), WEIGHTS], ids=["small", "several chunks"])
def test_a_damaged_file_never_arrives_whole(api: Api, content: bytes) -> None:
    version = api.import_model(files={"model.safetensors": content})
    damage(api, version, "model.safetensors", flip)
    received = bytearray()
    with (
        pytest.raises(httpx.RemoteProtocolError),
        api.client.stream("GET", files_url(api, "model.safetensors")) as answer,
    ):
        for chunk in answer.iter_bytes():
            received += chunk
    assert len(received) < len(content)
    figures = api.admin.get("/metrics").text
    assert "eigenwerk_damaged_transfers_total 0.0" not in figures


def test_a_shortened_or_missing_file_is_an_error_before_the_download(api: Api) -> None:
    version = api.import_model()
    damage(api, version, "config.json", lambda content: b"")
    answer = api.client.get(files_url(api, "config.json"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "corrupt_artifact")


@pytest.mark.parametrize(
    "path",
    ["absent.json", "../config.json", "%2e%2e/config.json", "..%2fconfig.json", "/config.json", "config.json%00"],
)
def test_only_what_the_manifest_names_can_be_fetched(api: Api, path: str) -> None:
    api.import_model()
    assert api.client.get(files_url(api, path)).status_code in (404, 422)


def test_another_user_sees_no_model_of_mine(api: Api) -> None:
    api.import_model()
    with api.as_user(api.new_user()) as other:
        for path in ("", "/versions/1", "/versions/1/files/config.json"):
            assert other.get(f"/v1/registry/models/{api.user}/tiny{path}").status_code == 404
        assert other.get("/v1/registry/models").json()["data"] == []
        alias = other.put(f"/v1/registry/models/{api.user}/tiny/aliases/prod", json={"version": 1})
        assert alias.status_code == 404
        assert other.post("/v1/jobs", json={**SPEC, "model": f"{api.user}/tiny"}).status_code == 422


class TestImports:
    def start(self, api: Api) -> str:
        import_id: str = api.client.post("/v1/registry/imports", json={"name": "tiny"}).json()["id"]
        return import_id

    def send(self, api: Api, import_id: str, path: str, content: bytes) -> httpx.Response:
        return api.client.put(f"/v1/registry/imports/{import_id}/files/{path}", content=content)

    def complete(self, api: Api, import_id: str) -> httpx.Response:
        return api.client.post(f"/v1/registry/imports/{import_id}/complete")

    @pytest.mark.parametrize(
        ("path", "content", "words"),
        [
            ("pytorch_model.bin", b"x", "can hold code"),
            ("model.PT", b"x", "can hold code"),
            ("modeling.py", b"x", "can hold code"),
            ("data.exe", b"x", "no file of a model"),
            ("manifest.json", b"{}", "manifest itself"),
            ("vocab.txt", b"\x80\x04\x95", "pickle or an archive"),
            ("spiece.model", b"PK\x03\x04rest", "pickle or an archive"),
            ("config.json", b'{"auto_map": {"AutoModel": "x.Y"}}', "foreign code"),
            ("config.json", b'{"a": 1', "can't be read"),
            ("config.json", b"[" * 100_000, "nested deeper"),
            ("model.gguf", b"JUNK", "no GGUF"),
            ("model.safetensors", b"short", "header is cut off"),
            ("model.safetensors", struct.pack("<Q", 2**40) + b"{}", "header is cut off"),
            ("model.safetensors", forged([2**62] * 100_000), "'w' is not valid"),
            ("model.safetensors", WEIGHTS[:-1], "end elsewhere"),
            ("model.safetensors", WEIGHTS + b"x", "end elsewhere"),
            ("a/b/c/d/e.json", b"{}", "more folders"),
            (".hidden.json", b"{}", "other characters"),
        ],
    )
    def test_what_could_run_code_or_is_not_what_it_says_is_refused(
        self, api: Api, path: str, content: bytes, words: str
    ) -> None:
        answer = self.send(api, self.start(api), path, content)
        assert answer.status_code == 422, answer.text
        problem = answer.json()["error"]["problems"][0]
        assert words in problem["message"]
        assert problem["file"] == path
        assert problem["remedy"]

    @pytest.mark.parametrize(
        "tensor",
        [
            {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
            {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
            {"dtype": "P9", "shape": [1], "data_offsets": [0, 4]},
            {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
            {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]},
            {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 4]},
            "no tensor",
        ],
    )
    def test_a_safetensors_file_with_an_impossible_header_is_refused(self, api: Api, tensor: object) -> None:
        header = json.dumps({"w": tensor}).encode()
        content = struct.pack("<Q", len(header)) + header + b"1234"
        assert self.send(api, self.start(api), "model.safetensors", content).status_code == 422

    def test_a_path_keeps_its_first_content(self, api: Api) -> None:
        import_id = self.start(api)
        assert self.send(api, import_id, "config.json", b"{}").status_code == 201
        assert self.send(api, import_id, "config.json", b"{}").status_code == 201
        other = self.send(api, import_id, "config.json", b"[]")
        assert (other.status_code, other.json()["error"]["code"]) == (409, "import_file_differs")

    def test_an_import_without_weights_or_configuration_is_not_completed(self, api: Api) -> None:
        import_id = self.start(api)
        self.send(api, import_id, "config.json", b"{}")
        assert "no weights" in self.complete(api, import_id).text
        import_id = self.start(api)
        self.send(api, import_id, "model.safetensors", safetensors())
        assert "configuration is missing" in self.complete(api, import_id).text

    def test_a_shard_that_the_index_names_must_be_there(self, api: Api) -> None:
        import_id = self.start(api)
        index = {"weight_map": {"w": "model-00001-of-00002.safetensors", "v": "model-00002-of-00002.safetensors"}}
        self.send(api, import_id, "config.json", b"{}")
        self.send(api, import_id, "model.safetensors.index.json", json.dumps(index).encode())
        self.send(api, import_id, "model-00001-of-00002.safetensors", safetensors())
        assert "names a file that was not sent" in self.complete(api, import_id).text
        self.send(api, import_id, "model-00002-of-00002.safetensors", safetensors())
        assert self.complete(api, import_id).status_code == 201

    def test_completing_twice_gives_the_same_version_and_closes_the_import(self, api: Api) -> None:
        import_id = self.start(api)
        self.send(api, import_id, "config.json", b"{}")
        self.send(api, import_id, "model.safetensors", safetensors())
        first, again = self.complete(api, import_id), self.complete(api, import_id)
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json()
        assert self.send(api, import_id, "README.md", b"late").status_code == 404

    def test_an_import_of_somebody_else_does_not_exist(self, api: Api) -> None:
        import_id = self.start(api)
        with api.as_user(api.new_user()) as other:
            assert other.put(f"/v1/registry/imports/{import_id}/files/config.json", content=b"{}").status_code == 404
            assert other.post(f"/v1/registry/imports/{import_id}/complete").status_code == 404


def test_a_configuration_that_means_harm_is_no_defect_of_the_platform(api: Api) -> None:
    sizes = '"hidden_size":64,"num_hidden_layers":2,"num_attention_heads":2,"vocab_size":99'
    api.push()
    for number, wrong in enumerate(
        ['"architectures":5', '"attention_dropout":"x"', '"attention_dropout":[1]', f'"head_dim":1{"0" * 400}']
    ):
        version = api.import_model(f"harm-{number}", {"config.json": f"{{{sizes},{wrong}}}".encode()})
        answer = api.client.post("/v1/jobs/estimate", json={**SPEC, "model": version["reference"]})
        assert answer.status_code == 200, answer.text


def test_an_index_that_names_what_is_no_file_of_the_import_is_refused(api: Api) -> None:
    for index in (b'{"weight_map":{"a":"model.safetensors","b":"other.safetensors"}}', b'{"weight_map":{"a":[1]}}'):
        import_id = api.client.post("/v1/registry/imports", json={"name": "parts"}).json()["id"]
        files = {"model.safetensors": safetensors(), "config.json": b"{}", "model.safetensors.index.json": index}
        for path, body in files.items():
            assert api.client.put(f"/v1/registry/imports/{import_id}/files/{path}", content=body).status_code == 201
        refused = api.client.post(f"/v1/registry/imports/{import_id}/complete")
        assert (refused.status_code, "was not sent" in refused.text) == (422, True)
