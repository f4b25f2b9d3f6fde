"""The object store against a real S3 server."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from storage.object_upload import part_bytes_for
from storage.objects import (
    ObjectCorrupt,
    ObjectNotFound,
    ObjectSettings,
    ObjectStore,
    ObjectTooLarge,
    TransferStopped,
    WantedObject,
    checked_key,
)

PART_BYTES = 5 * 1024 * 1024


@pytest.fixture(scope="module")
def second_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Moto's S3 server: another make, so that "any S3" is not only one. It believes any signature."""
    log = tmp_path_factory.mktemp("moto") / "log"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as stream, subprocess.Popen(command, stdout=stream, stderr=stream) as server:
        url = f"http://127.0.0.1:{port}"
        try:
            while not _answers(url):
                assert server.poll() is None, log.read_text()
            yield url
        finally:
            server.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        time.sleep(0.1)
        return False


@pytest.fixture(params=["seaweedfs", "moto"])
def make(request: pytest.FixtureRequest) -> str:
    """Which S3 server."""
    return str(request.param)


@pytest.fixture
def settings(make: str, request: pytest.FixtureRequest) -> ObjectSettings:
    if make == "moto":
        url = request.getfixturevalue("second_server")
        return ObjectSettings(
            url, access_key="somebody", secret_key="secret", bucket="eigenwerk", part_bytes=PART_BYTES
        )
    return ObjectSettings(**request.getfixturevalue("object_settings"), part_bytes=PART_BYTES)


@pytest.fixture
def store(settings: ObjectSettings) -> Iterator[ObjectStore]:
    store = ObjectStore(settings)
    store.ensure_bucket()
    yield store
    store.close()


@pytest.fixture
def folder(store: ObjectStore) -> Iterator[str]:
    folder = f"test/{uuid.uuid4().hex}"
    yield folder
    store.delete(folder)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(os.urandom(3 * PART_BYTES + 12345))
    return path


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1])
def test_a_file_comes_back_as_it_was_sent(store: ObjectStore, folder: str, tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    source.write_bytes(os.urandom(size))
    stored = store.upload_file(source, f"{folder}/file")
    assert (stored.bytes, stored.sha256) == (size, sha256_of(source))
    fetched = store.download_file(stored.key, target, sha256=stored.sha256, bytes_total=size)
    assert fetched == stored
    assert target.read_bytes() == source.read_bytes()


def test_a_large_file_goes_in_parts_and_progress_reaches_the_whole(
    store: ObjectStore, folder: str, large: Path, tmp_path: Path
) -> None:
    calls: list[tuple[int, int]] = []
    stored = store.upload_file(large, f"{folder}/large", on_progress=lambda done, total: calls.append((done, total)))
    assert len(calls) == 4
    assert calls[-1] == (stored.bytes, large.stat().st_size)
    assert sorted(calls) == calls
    assert stored.sha256 == sha256_of(large)
    target = tmp_path / "copy"
    store.download_file(stored.key, target, sha256=stored.sha256)
    assert sha256_of(target) == stored.sha256
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_the_name_of_a_file_may_hold_any_printable_character(store: ObjectStore, folder: str) -> None:
    key = f"{folder}/a b+c%20d&e=f?g#h;i~(1)'\"@é".replace("é", "")
    store.put_bytes(key, b"x")
    assert store.get_bytes(key) == b"x"
    assert [info.key for info in store.list(f"{folder}/")] == [key]
    assert httpx.get(store.presigned_get(key, 60)).content == b"x"
    assert store.delete(folder) == 1


def test_a_range_reads_exactly_its_bytes(store: ObjectStore, folder: str, large: Path) -> None:
    content = large.read_bytes()
    store.upload_file(large, f"{folder}/large")
    for start, end in [
        (0, 1),
        (PART_BYTES - 2, PART_BYTES + 2),
        (len(content) - 1, len(content)),
        (5, 5),
        (7, 3_000_000),
    ]:
        with store.open_range(f"{folder}/large", start, end) as stream:
            assert b"".join(stream) == content[start:end]


def test_a_range_may_be_left_half_read(store: ObjectStore, folder: str, large: Path) -> None:
    store.upload_file(large, f"{folder}/large")
    with store.open_range(f"{folder}/large", 0, large.stat().st_size) as stream:
        assert next(stream)
    assert store.stat(f"{folder}/large").bytes == large.stat().st_size


def test_a_tree_goes_up_and_comes_down(store: ObjectStore, folder: str, large: Path, tmp_path: Path) -> None:
    source = tmp_path / "model"
    (source / "tokenizer").mkdir(parents=True)
    large.rename(source / "weights.bin")
    (source / "config.json").write_text("{}")
    (source / "tokenizer" / "vocab.txt").write_text("a\nb")
    names = ["weights.bin", "config.json", "tokenizer/vocab.txt"]
    calls: list[tuple[int, int]] = []
    stored = store.upload_tree(source, names, folder, on_progress=lambda done, total: calls.append((done, total)))
    assert [item.key for item in stored] == [f"{folder}/{name}" for name in names]
    assert calls[-1][0] == calls[-1][1] == sum(item.bytes for item in stored)
    wanted = [WantedObject(name, item.bytes, item.sha256) for name, item in zip(names, stored, strict=True)]
    store.download_tree(folder, wanted, tmp_path / "copy")
    for name in names:
        assert sha256_of(tmp_path / "copy" / name) == sha256_of(source / name)


def test_a_tree_is_refused_if_one_file_differs_from_the_manifest(
    store: ObjectStore, folder: str, tmp_path: Path
) -> None:
    stored = store.put_bytes(f"{folder}/config.json", b"{}")
    store.put_bytes(f"{folder}/config.json", b"[]")
    with pytest.raises(ObjectCorrupt):
        store.download_tree(folder, [WantedObject("config.json", 2, stored.sha256)], tmp_path / "copy")
    assert list((tmp_path / "copy").iterdir()) == []


@pytest.mark.parametrize("make", ["seaweedfs"], indirect=True)  # moto believes any signature
def test_a_presigned_url_works_without_credentials_until_it_expires(store: ObjectStore, folder: str) -> None:
    store.put_bytes(f"{folder}/file", b"content")
    answer = httpx.get(
        store.presigned_get(f"{folder}/file", 60, filename="Modell für Ä.bin"), headers={"Range": "bytes=1-3"}
    )
    assert (answer.status_code, answer.content) == (206, b"ont")
    assert "filename*=UTF-8''Modell%20f%C3%BCr%20%C3%84.bin" in answer.headers["Content-Disposition"]
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    expired = store.presigned_get(f"{folder}/file", 60, signed_at=an_hour_ago)
    assert httpx.get(expired).status_code == 403
    other_key = store.presigned_get(f"{folder}/file", 60).replace(f"{folder}/file", f"{folder}/other")
    assert httpx.get(other_key).status_code == 403


def test_a_presigned_url_can_name_the_public_address(store: ObjectStore) -> None:
    url = store.presigned_get("a/b", 60, public_endpoint="https://models.example.org")
    assert url.startswith("https://models.example.org/")
    with pytest.raises(ValueError, match="7 days"):
        store.presigned_get("a/b", 8 * 24 * 3600)


def test_a_changed_object_is_refused_and_leaves_no_file(
    store: ObjectStore, folder: str, large: Path, tmp_path: Path
) -> None:
    stored = store.upload_file(large, f"{folder}/large")
    content = bytearray(large.read_bytes())
    content[PART_BYTES + 99] ^= 1
    large.write_bytes(content)
    store.upload_file(large, stored.key)
    target = tmp_path / "target" / "model.bin"
    target.parent.mkdir()
    target.write_bytes(b"the version before")
    with pytest.raises(ObjectCorrupt, match=stored.sha256):
        store.download_file(stored.key, target, sha256=stored.sha256)
    assert target.read_bytes() == b"the version before"
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(ObjectCorrupt, match="bytes"):
        store.download_file(stored.key, target, bytes_total=stored.bytes + 1)


def test_an_object_replaced_while_it_is_read_is_refused(store: ObjectStore, folder: str) -> None:
    store.put_bytes(f"{folder}/file", b"one")
    etag = store.stat(f"{folder}/file").etag
    store.put_bytes(f"{folder}/file", b"two")
    with pytest.raises(ObjectCorrupt, match="another version"):
        store.open_range(f"{folder}/file", 0, 3, etag=etag)


def test_a_stopped_upload_leaves_nothing(store: ObjectStore, folder: str, large: Path) -> None:
    sent: list[int] = []
    with pytest.raises(TransferStopped):
        store.upload_file(
            large,
            f"{folder}/large",
            on_progress=lambda done, total: sent.append(done),
            should_stop=lambda: bool(sent),
        )
    assert sent
    assert list(store.abandoned_uploads(folder)) == []
    assert list(store.list(folder)) == []


def test_a_file_that_is_not_what_was_promised_never_appears(store: ObjectStore, folder: str, large: Path) -> None:
    with pytest.raises(ObjectCorrupt):
        store.upload_file(large, f"{folder}/large", sha256="0" * 64)
    small = large.with_name("small")
    small.write_bytes(b"abc")
    with pytest.raises(ObjectCorrupt):
        store.upload_file(small, f"{folder}/small", sha256="0" * 64)
    assert list(store.abandoned_uploads(folder)) == []
    assert list(store.list(folder)) == []


def test_a_file_that_grows_while_it_is_sent_is_refused(store: ObjectStore, folder: str, large: Path) -> None:
    def grow(done: int, total: int) -> None:
        with large.open("ab") as file:
            file.write(b"more")

    with pytest.raises(ObjectCorrupt, match="longer"):
        store.upload_file(large, f"{folder}/large", on_progress=grow)
    assert list(store.abandoned_uploads(folder)) == []


@pytest.mark.parametrize("make", ["seaweedfs"], indirect=True)  # moto's uploads have all begun in 2010
def test_an_abandoned_upload_is_found_and_can_be_dropped(store: ObjectStore, folder: str) -> None:
    store._wire.request("POST", f"{folder}/large", query={"uploads": ""})  # as a killed process leaves it
    [abandoned] = store.abandoned_uploads(folder)
    assert abandoned.key == f"{folder}/large"
    assert abs(datetime.now(UTC) - abandoned.started_at) < timedelta(minutes=5)
    store.abort_upload(abandoned)
    store.abort_upload(abandoned)
    assert list(store.abandoned_uploads(folder)) == []


def test_delete_takes_the_folder_and_not_its_neighbours(store: ObjectStore, folder: str) -> None:
    for name in ("1", "1/a", "1/b/c", "10", "2"):
        store.put_bytes(f"{folder}/x/{name}" if name != "1" else f"{folder}/y", b".")
    assert store.delete(f"{folder}/x/1") == 2
    assert [info.key.removeprefix(folder) for info in store.list(f"{folder}/")] == ["/x/10", "/x/2", "/y"]
    assert store.delete(f"{folder}/nothing") == 0


@pytest.mark.parametrize("make", ["seaweedfs"], indirect=True)  # moto takes 20 s for so many
def test_a_listing_goes_on_past_one_page(store: ObjectStore, folder: str) -> None:
    names = [f"{folder}/{number:04}" for number in range(1005)]
    for name in names:
        store.put_bytes(name, b"")
    assert [info.key for info in store.list(f"{folder}/")] == names
    assert store.delete(folder) == len(names)


def test_small_reads_have_a_limit_and_missing_objects_a_name(store: ObjectStore, folder: str, tmp_path: Path) -> None:
    store.put_bytes(f"{folder}/file", b"12345")
    with pytest.raises(ObjectTooLarge, match="5 bytes"):
        store.get_bytes(f"{folder}/file", max_bytes=4)
    for call in (
        lambda: store.get_bytes(f"{folder}/none"),
        lambda: store.open_range(f"{folder}/none", 0, 1),
        lambda: store.download_file(f"{folder}/none", tmp_path / "none"),
    ):
        with pytest.raises(ObjectNotFound, match="none"):
            call()


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.", "ä", "a\nb", "a\\b", "a\x00", "a" * 1025]
)
def test_a_key_that_the_server_would_not_build_is_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="object key"):
        checked_key(key)
    with pytest.raises(ValueError, match="object key"):
        store.put_bytes(key, b"")


def test_parts_grow_so_that_ten_thousand_are_enough() -> None:
    mib = 1024 * 1024
    assert part_bytes_for(10**9, 16 * mib) == 16 * mib
    size = 10**12
    assert part_bytes_for(size, 16 * mib) * 10_000 >= size


def test_the_secret_is_not_shown(settings: ObjectSettings) -> None:
    assert settings.secret_key not in repr(settings)
    with pytest.raises(ValueError, match="http://host:port"):
        replace(settings, endpoint_url="127.0.0.1:8333")
