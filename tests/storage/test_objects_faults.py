"""The object store when the server, the line or the credentials fail."""

from __future__ import annotations

import os
import select
import socket
import socketserver
import threading
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from deploy.embedded.stack import EmbeddedServices
from storage.objects import (
    ObjectCorrupt,
    ObjectSettings,
    ObjectStore,
    ObjectStoreRefused,
    ObjectStoreUnavailable,
    WantedObject,
)

PART_BYTES = 5 * 1024 * 1024

#: Gets each piece that a client sends; may change it, or return None to cut the connection.
Tamper = Callable[[bytes], bytes | None]


@pytest.fixture
def settings(object_settings: dict[str, Any]) -> ObjectSettings:
    return ObjectSettings(**object_settings, part_bytes=PART_BYTES, backoff_first_s=0.01)


@pytest.fixture
def store(settings: ObjectSettings) -> Iterator[ObjectStore]:
    store = ObjectStore(settings)
    store.ensure_bucket()
    yield store
    store.close()


@contextmanager
def proxy(settings: ObjectSettings, to_server: Tamper, to_client: Tamper = bytes) -> Iterator[ObjectSettings]:
    """A TCP relay to the server that can damage or cut what passes; gives settings that lead through it."""
    upstream = urlsplit(settings.endpoint_url)

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((upstream.hostname or "", upstream.port or 80)) as server:
                routes = {self.request: (server, to_server), server: (self.request, to_client)}
                while all(pass_on(source, *routes[source]) for source in select.select(list(routes), [], [])[0]):
                    pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as relay:
        serving = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield replace(settings, endpoint_url=f"http://127.0.0.1:{relay.server_address[1]}")
        relay.shutdown()
        serving.join()


def pass_on(source: socket.socket, sink: socket.socket, tamper: Tamper) -> bool:
    """Passes one piece; False if the connection is to end."""
    try:
        data = source.recv(65536)
        passed = tamper(data) if data else None
        if passed is None:
            return False
        sink.sendall(passed)
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_server_that_is_down_is_unavailable_at_once(settings: ObjectSettings, tmp_path: Path) -> None:
    down = replace(settings, endpoint_url=f"http://127.0.0.1:{free_port()}")
    waits: list[float] = []
    store = ObjectStore(down, sleep=waits.append)
    file = tmp_path / "file"
    file.write_bytes(b"x")
    began = time.monotonic()
    with pytest.raises(ObjectStoreUnavailable, match="Check that it runs"):
        store.upload_file(file, "a/b")
    assert len(waits) == settings.attempts - 1
    with pytest.raises(ObjectStoreUnavailable):
        store.healthy()
    assert len(waits) == settings.attempts - 1, "health asks once"
    assert time.monotonic() - began < 2


def test_wrong_credentials_are_refused_and_not_repeated(settings: ObjectSettings, tmp_path: Path) -> None:
    waits: list[float] = []
    wrong = ObjectStore(replace(settings, secret_key="wrong"), sleep=waits.append)
    for call in (wrong.healthy, wrong.ensure_bucket, lambda: wrong.put_bytes("a/b", b"")):
        with pytest.raises(ObjectStoreRefused, match="Check the key, the secret and the machine's clock"):
            call()
    assert waits == []


def test_a_missing_bucket_is_named(settings: ObjectSettings) -> None:
    elsewhere = ObjectStore(replace(settings, bucket="no-such-bucket"))
    for call in (elsewhere.healthy, lambda: elsewhere.open_range("a/b", 0, 1)):
        with pytest.raises(ObjectStoreRefused, match="no-such-bucket") as refused:
            call()
        assert refused.value.code == "NoSuchBucket"


def test_a_byte_flipped_on_the_way_is_sent_again(store: ObjectStore, settings: ObjectSettings, tmp_path: Path) -> None:
    flipped: list[int] = []

    def flip_one(data: bytes) -> bytes:
        if len(data) > 20_000 and not flipped:
            flipped.append(1)
            return data[:-1] + bytes([data[-1] ^ 1])
        return data

    file = tmp_path / "file"
    file.write_bytes(os.urandom(2 * PART_BYTES + 1))
    key = f"test/{uuid.uuid4().hex}"
    with proxy(settings, flip_one) as through, closing(ObjectStore(through)) as damaged:
        stored = damaged.upload_file(file, key)
    assert flipped
    store.download_file(key, tmp_path / "copy", sha256=stored.sha256)
    store.delete(key)


def test_a_bit_that_flipped_on_the_servers_disk_is_noticed(
    services: EmbeddedServices, settings: ObjectSettings, tmp_path: Path
) -> None:
    content = os.urandom(100_000)
    key = f"test/{uuid.uuid4().hex}"
    # One attempt: the server itself takes 13 s to give up on the object.
    with closing(ObjectStore(replace(settings, attempts=1))) as store:
        stored = store.put_bytes(key, content)
        assert flip_on_disk(services.home.folder("objects"), content[50_000:50_032]) == 1
        with pytest.raises(ObjectCorrupt):
            store.download_file(key, tmp_path / "copy", sha256=stored.sha256)
        assert list(tmp_path.iterdir()) == []
        store.delete(key)


@pytest.mark.parametrize(("failures", "readable"), [(9, True), (99, False)])
def test_a_server_that_cannot_read_yet_is_waited_for_before_the_object_is_called_damaged(
    settings: ObjectSettings, failures: int, readable: bool
) -> None:
    asked, waits = [0], list[float]()

    class Starting(BaseHTTPRequestHandler):
        """Knows the bucket and the object, and can read it only after `failures` questions."""

        def do_HEAD(self) -> None:
            self.answer(200, b"")

        def do_GET(self) -> None:
            asked[0] += 1
            self.answer(*((500, b"") if asked[0] <= failures else (206, b"here")))

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Starting) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        usual = ObjectSettings(f"http://127.0.0.1:{server.server_address[1]}", "key", "secret", bucket=settings.bucket)
        with closing(ObjectStore(usual, sleep=waits.append)) as store:
            if readable:
                with store.open_range("a/b", 0, 4) as stream:
                    assert b"".join(stream) == b"here"
            else:
                with pytest.raises(ObjectCorrupt, match="is damaged"):
                    store.open_range("a/b", 0, 4)
                assert 6 < sum(waits) < 13
        server.shutdown()
        serving.join()


def flip_on_disk(folder: Path, needle: bytes) -> int:
    """Flips a bit where `needle` is stored; returns in how many files."""
    count = 0
    for path in folder.rglob("*.dat"):
        place = path.read_bytes().find(needle)
        if place >= 0:
            count += 1
            with path.open("r+b") as file:
                file.seek(place)
                file.write(bytes([needle[0] ^ 1]))
    return count


def test_a_cut_line_ends_the_upload_as_unavailable_and_leaves_no_object(
    store: ObjectStore, settings: ObjectSettings, tmp_path: Path
) -> None:
    passed = [0]

    def cut_at_half(data: bytes) -> bytes | None:
        passed[0] += len(data)
        return None if passed[0] > 2 * PART_BYTES else data

    file = tmp_path / "file"
    file.write_bytes(os.urandom(4 * PART_BYTES))
    key = f"test/{uuid.uuid4().hex}"
    with proxy(settings, cut_at_half) as through, closing(ObjectStore(through)) as cut:  # noqa: SIM117
        with pytest.raises(ObjectStoreUnavailable):
            cut.upload_file(file, key)
    assert list(store.list(key)) == []
    # The abort could not get through either; what is left can be found and dropped.
    for abandoned in store.abandoned_uploads(key):
        store.abort_upload(abandoned)
    assert list(store.abandoned_uploads(key)) == []


def test_a_download_goes_on_where_the_line_broke(store: ObjectStore, settings: ObjectSettings, tmp_path: Path) -> None:
    cuts: list[int] = []
    passed = [0]

    def cut_twice(data: bytes) -> bytes | None:
        passed[0] += len(data)
        if passed[0] > PART_BYTES * (len(cuts) + 0.5) and len(cuts) < 2:
            cuts.append(passed[0])
            return None
        return data

    file = tmp_path / "file"
    file.write_bytes(os.urandom(3 * PART_BYTES))
    key = f"test/{uuid.uuid4().hex}"
    stored = store.upload_file(file, key)
    with proxy(settings, bytes, cut_twice) as through, closing(ObjectStore(through)) as cut:
        cut.download_file(key, tmp_path / "copy", sha256=stored.sha256)
    assert len(cuts) == 2
    store.delete(key)


@pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a/../../b", "a\\..\\b"])
def test_a_manifest_can_not_write_outside_its_folder(store: ObjectStore, tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="object key"):
        store.download_tree("test", [WantedObject(path, 1, "0" * 64)], tmp_path)


def test_a_link_in_the_target_folder_is_not_followed(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="leads out of the folder"):
        store.download_tree("test", [WantedObject("link/file", 1, "0" * 64)], tmp_path / "root")


def test_memory_stays_bounded_while_a_file_is_sent(store: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as sparse:
        sparse.truncate(20 * PART_BYTES)
    key = f"test/{uuid.uuid4().hex}"
    tracemalloc.start()
    store.upload_file(file, key)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 7 * PART_BYTES
    store.delete(key)
