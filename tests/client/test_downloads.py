"""What is stored comes to the disk whole, resumed and checked, or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import pytest

from eigenwerk import EigenwerkError, TransferCorrupt
from eigenwerk.files.model_folders import check_folder
from eigenwerk.resources import DatasetVersion
from tests.client.answering import Cut, client_of
from tests.client.documents import dataset, model_version

WEIGHTS = bytes(range(256)) * 40
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS}
PREDICTIONS = {"evaluation/held-out.parquet": b"PAR1 predictions"}


def registry(request: httpx.Request, files: dict[str, bytes] | None = None) -> httpx.Response:
    """Serves FILES with Range; `files` replaces what is sent, not what the manifest says."""
    path = request.url.path
    if path == "/v1/users/me":
        return httpx.Response(200, json={"id": "u", "name": "admin"})
    if "/files/" not in path:
        return httpx.Response(200, json=model_version(FILES))
    content = (files or FILES)[path.split("/files/")[1]]
    if wanted := request.headers.get("Range"):
        return httpx.Response(206, content=content[int(wanted.removeprefix("bytes=").rstrip("-")) :])
    return httpx.Response(200, content=content)


def test_a_download_is_complete_checked_and_done_once(tmp_path: Path) -> None:
    fetched: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        fetched.append(request.url.path)
        return registry(request)

    counted: list[int] = []
    with client_of(handler) as client:
        version = client.download("newsticker-quality@1", tmp_path, progress=counted.append)
        check_folder(tmp_path, version.manifest)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "manifest.json", "model.safetensors"]
        assert sum(counted) == version.manifest.bytes_total
        fetched.clear()
        client.download("newsticker-quality@1", tmp_path)
    assert not [path for path in fetched if "/files/" in path]


def test_a_broken_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    ranges: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("model.safetensors"):
            return registry(request)
        ranges.append(request.headers.get("Range"))
        if len(ranges) == 1:
            return httpx.Response(200, stream=Cut(WEIGHTS[:5000]))
        return registry(request)

    counted: list[int] = []
    with client_of(handler) as client:
        client.download("newsticker-quality", tmp_path, progress=counted.append)
    # httpx hands out chunks of a fixed size, so nothing of the first 5,000 bytes may have been written.
    assert ranges[0] is None
    assert len(ranges) == 2
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS
    assert sum(counted) == len(WEIGHTS) + 2


def test_a_server_that_ignores_ranges_starts_the_file_anew(tmp_path: Path) -> None:
    version = model_version(FILES)
    part = tmp_path / f".model.safetensors.{version['manifest']['files'][1]['sha256'][:16]}.part"
    part.write_bytes(WEIGHTS[:100])

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("model.safetensors"):
            assert request.headers["Range"] == "bytes=100-"
            return httpx.Response(200, content=WEIGHTS)
        return registry(request)

    counted: list[int] = []
    with client_of(handler) as client:
        client.download("newsticker-quality", tmp_path, progress=counted.append)
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS
    assert sum(counted) == len(WEIGHTS) + 2


def test_a_file_in_the_place_of_the_folder_is_said_in_one_line(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with (
        client_of(registry) as client,
        pytest.raises(EigenwerkError, match=r"taken can't be a folder .*: it is there already"),
    ):
        client.download("newsticker-quality@1", taken)
    assert taken.read_text() == "mine"


def test_a_flipped_bit_never_becomes_a_file(tmp_path: Path) -> None:
    damaged = {**FILES, "model.safetensors": WEIGHTS[:-1] + b"\x00"}
    with (
        client_of(lambda request: registry(request, damaged)) as client,
        pytest.raises(TransferCorrupt, match=r"model\.safetensors"),
    ):
        client.download("newsticker-quality", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_data_set_comes_back_as_it_was_pushed_resumed_checked_and_never_over_another_file(tmp_path: Path) -> None:
    version = DatasetVersion.model_validate(dataset(bytes=len(WEIGHTS), sha256=hashlib.sha256(WEIGHTS).hexdigest()))
    ranges: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/datasets/admin/headlines/versions/1/file"
        ranges.append(request.headers["Range"])
        return httpx.Response(206, content=WEIGHTS[int(ranges[-1].removeprefix("bytes=").rstrip("-")) :])

    (tmp_path / f".headlines.csv.{version.sha256[:16]}.part").write_bytes(WEIGHTS[:100])
    with client_of(handler) as client:
        target = client.download_dataset(version, tmp_path)
        assert (target, target.read_bytes()) == (tmp_path / "headlines.csv", WEIGHTS)
        assert ranges == ["bytes=100-"]
        other = tmp_path / "mine.csv"
        other.write_text("my own rows")
        with pytest.raises(EigenwerkError, match="is there already"):
            client.download_dataset(version, other)
        assert other.read_text() == "my own rows"
    with (
        client_of(lambda _: httpx.Response(200, content=WEIGHTS[::-1])) as client,
        pytest.raises(TransferCorrupt),
    ):
        client.download_dataset(version, tmp_path / "again.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["headlines.csv", "mine.csv"]


def test_a_place_without_an_ending_is_a_folder_for_a_data_sets_file(tmp_path: Path) -> None:
    version = DatasetVersion.model_validate(dataset(bytes=len(WEIGHTS), sha256=hashlib.sha256(WEIGHTS).hexdigest()))
    with client_of(lambda _: httpx.Response(200, content=WEIGHTS)) as client:
        assert client.download_dataset(version, tmp_path / "data") == tmp_path / "data" / "headlines.csv"


def test_a_changed_file_is_found_when_the_folder_is_checked(tmp_path: Path) -> None:
    with client_of(registry) as client:
        version = client.download("newsticker-quality", tmp_path)
    (tmp_path / "config.json").write_bytes(b"[]")
    with pytest.raises(TransferCorrupt, match=r"config\.json"):
        check_folder(tmp_path, version.manifest)


def test_held_out_predictions_come_alone_and_overwrite_no_other_file(tmp_path: Path) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if "/files/" in request.url.path or request.url.path == "/v1/users/me":
            return registry(request, PREDICTIONS)
        return httpx.Response(200, json=model_version(PREDICTIONS))

    with client_of(handler) as client:
        target = client.download_predictions("newsticker-quality", tmp_path)
        assert target.name == "newsticker-quality-1-held-out.parquet" and target.read_bytes() == b"PAR1 predictions"
        other = tmp_path / "notes.txt"
        other.write_text("mine")
        with pytest.raises(EigenwerkError, match="is there already"):
            client.download_predictions("newsticker-quality", other)
    with client_of(registry) as client, pytest.raises(EigenwerkError, match="keeps no predictions"):
        client.download_predictions("newsticker-quality", tmp_path)
