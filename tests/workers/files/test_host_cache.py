from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest

from jobspecs.frozen import FrozenDataset, FrozenRegistryModel
from jobspecs.manifest import ManifestFile
from jobspecs.pieces import StoredFile, stored_below
from storage.objects import ObjectCorrupt, ObjectNotFound, ObjectSettings, ObjectStore, TransferStopped
from workers.files import host_cache
from workers.files.host_cache import HostCache


def never() -> bool:
    return False


@pytest.fixture
def store(object_settings: dict[str, str]) -> Iterator[ObjectStore]:
    made = ObjectStore(ObjectSettings(**object_settings))  # type: ignore[arg-type]
    yield made
    made.close()


@pytest.fixture
def cache(tmp_path: Path, store: ObjectStore) -> HostCache:
    return HostCache(tmp_path / "cache", store, bytes_max=1000)


def stored_dataset(store: ObjectStore, content: bytes) -> FrozenDataset:
    key = f"datasets/{uuid4()}/data.csv"
    store.put_bytes(key, content)
    return FrozenDataset(
        version_id=uuid4(),
        owner="tester",
        name="rows",
        version=1,
        file_name="rows.csv",
        key=key,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def names_in(root: Path) -> set[str]:
    return {path.name for path in (root / "sha256").iterdir()}


def test_the_second_use_needs_no_store(cache: HostCache, store: ObjectStore, tmp_path: Path) -> None:
    dataset = stored_dataset(store, b"content")
    cache.place_dataset(dataset, tmp_path / "first", should_stop=never)
    store.delete(dataset.key)
    assert cache.place_dataset(dataset, tmp_path / "second", should_stop=never).read_bytes() == b"content"


def test_a_cached_file_that_changed_on_disk_is_fetched_again(
    cache: HostCache, store: ObjectStore, tmp_path: Path
) -> None:
    dataset = stored_dataset(store, b"content")
    cache.place_dataset(dataset, tmp_path / "first", should_stop=never)
    cached = tmp_path / "cache" / "sha256" / dataset.sha256
    cached.chmod(0o644)
    cached.write_bytes(b"c0ntent")
    assert cache.place_dataset(dataset, tmp_path / "second", should_stop=never).read_bytes() == b"content"


def test_a_damaged_object_is_refused_and_not_cached(cache: HostCache, store: ObjectStore, tmp_path: Path) -> None:
    dataset = stored_dataset(store, b"content")
    store.put_bytes(dataset.key, b"c0ntent")
    for attempt in range(2):
        with pytest.raises(ObjectCorrupt):
            cache.place_dataset(dataset, tmp_path / str(attempt), should_stop=never)
    assert not list((tmp_path / "cache" / "sha256").iterdir())


def test_a_missing_object_is_told_by_its_key(cache: HostCache, store: ObjectStore, tmp_path: Path) -> None:
    dataset = stored_dataset(store, b"content")
    store.delete(dataset.key)
    with pytest.raises(ObjectNotFound, match=dataset.key):
        cache.place_dataset(dataset, tmp_path / "first", should_stop=never)


def test_what_was_unused_for_longest_makes_room(cache: HostCache, store: ObjectStore, tmp_path: Path) -> None:
    old, recent, new = (stored_dataset(store, bytes([letter]) * 400) for letter in b"abc")
    for number, dataset in enumerate((old, recent)):
        cache.place_dataset(dataset, tmp_path / dataset.sha256, should_stop=never)
        shutil.rmtree(tmp_path / dataset.sha256)
        os.utime(tmp_path / "cache" / "sha256" / dataset.sha256, (1 + number, 1 + number))
    cache.place_dataset(new, tmp_path / "new", should_stop=never)
    assert names_in(tmp_path / "cache") == {recent.sha256, new.sha256}


def test_what_one_worker_uses_is_not_trimmed_by_the_other(cache: HostCache, store: ObjectStore, tmp_path: Path) -> None:
    """The agent and the inference worker of a host have one cache each, of the same folder."""
    used, unused, new = (stored_dataset(store, bytes([letter]) * 400) for letter in b"abc")
    cache.place_dataset(used, tmp_path / "used", should_stop=never)
    cache.place_dataset(unused, tmp_path / "unused", should_stop=never)
    shutil.rmtree(tmp_path / "unused")
    os.utime(tmp_path / "cache" / "sha256" / used.sha256, (1, 1))
    other = HostCache(tmp_path / "cache", store, bytes_max=1000)
    placed = other.place_dataset(new, tmp_path / "new", should_stop=never)
    assert names_in(tmp_path / "cache") == {used.sha256, new.sha256}
    store.delete(used.key)
    again = other.place_dataset(used, tmp_path / "again", should_stop=never)
    assert again.samefile(tmp_path / "used" / "rows.csv") and placed.read_bytes() == b"c" * 400


def test_one_that_hangs_while_it_makes_room_does_not_stop_the_other(
    cache: HostCache, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_cache, "_TRIM_WAIT_S", 0.0)
    with (tmp_path / "cache" / "locks" / "trim").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        placed = cache.place_dataset(stored_dataset(store, b"content"), tmp_path / "new", should_stop=never)
    assert placed.read_bytes() == b"content"


def test_two_workers_that_need_the_same_fetch_it_once(cache: HostCache, store: ObjectStore, tmp_path: Path) -> None:
    dataset = stored_dataset(store, b"content")
    downloading, go_on, waiting = threading.Event(), threading.Event(), threading.Event()
    other = HostCache(tmp_path / "cache", store, bytes_max=1000)

    def hold() -> bool:
        downloading.set()
        return not go_on.wait(30)

    def wait() -> bool:
        waiting.set()
        return False

    first = threading.Thread(target=cache.place_dataset, args=(dataset, tmp_path / "1"), kwargs={"should_stop": hold})
    second = threading.Thread(target=other.place_dataset, args=(dataset, tmp_path / "2"), kwargs={"should_stop": wait})
    first.start()
    try:
        assert downloading.wait(30)
        second.start()
        assert waiting.wait(30)
        assert not (tmp_path / "2").exists()
    finally:
        go_on.set()
        first.join()
        second.join()
    assert (tmp_path / "1" / "rows.csv").samefile(tmp_path / "2" / "rows.csv")


def test_broken_downloads_of_the_dead_are_removed_and_those_of_the_living_are_not(
    cache: HostCache, store: ObjectStore, tmp_path: Path
) -> None:
    holder = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('held', flush=True); input()"
    incoming = tmp_path / "cache" / "incoming"
    for name in ("alive", "dead"):
        (incoming / name).mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(cache._lock_of("alive"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        HostCache(tmp_path / "cache", store, bytes_max=1000)
        assert [path.name for path in incoming.iterdir()] == ["alive"]
        process.kill()
    HostCache(tmp_path / "cache", store, bytes_max=1000)
    assert not list(incoming.iterdir())


def test_a_models_files_lie_under_their_paths(cache: HostCache, store: ObjectStore, tmp_path: Path) -> None:
    prefix = f"models/{uuid4()}"
    files = []
    for path in ("config.json", "1_Pooling/config.json"):
        content = path.encode()
        store.put_bytes(f"{prefix}/{path}", content)
        files.append(ManifestFile(path=path, bytes=len(content), sha256=hashlib.sha256(content).hexdigest()))
    model = FrozenRegistryModel(
        version_id=uuid4(), owner="o", name="m", version=1, digest="0" * 64, prefix=prefix, files=tuple(files)
    )
    cache.place_model(model, tmp_path / "model", should_stop=never)
    assert (tmp_path / "model" / "1_Pooling" / "config.json").read_bytes() == b"1_Pooling/config.json"


class _MeetingStore:
    """A store that gives a file out once three others are being fetched as well; `broken` is none of its objects."""

    def __init__(self, broken: str | None = None) -> None:
        self._meeting = threading.Barrier(4)
        self._broken = broken
        self.asked: list[str] = []

    def download_stored(self, file: StoredFile, target: Path, *, should_stop: Callable[[], bool]) -> None:
        path = file.path
        self.asked.append(path)
        self._meeting.wait(30)
        if path == self._broken:
            raise ObjectNotFound(path)
        while self._broken and not should_stop():
            time.sleep(0.01)
        if self._broken:
            raise TransferStopped(path)
        target.write_bytes(path.encode())


def files_of_a_model(count: int) -> list[ManifestFile]:
    names = [f"model-{number}.safetensors" for number in range(count)]
    return [
        ManifestFile(path=name, bytes=len(name), sha256=hashlib.sha256(name.encode()).hexdigest()) for name in names
    ]


def test_a_models_files_are_fetched_a_few_at_once(tmp_path: Path) -> None:
    store, files = _MeetingStore(), files_of_a_model(8)
    cache = HostCache(tmp_path / "cache", cast(ObjectStore, store), bytes_max=1 << 20)
    cache.place_files(stored_below("models/m", files), tmp_path / "model", should_stop=never)
    assert all((tmp_path / "model" / file.path).read_bytes() == file.path.encode() for file in files)
    assert names_in(tmp_path / "cache") == {file.sha256 for file in files}


def test_a_file_that_cannot_be_had_ends_the_others_and_is_the_reason(tmp_path: Path) -> None:
    store, files = _MeetingStore(broken="model-2.safetensors"), files_of_a_model(12)
    cache = HostCache(tmp_path / "cache", cast(ObjectStore, store), bytes_max=1 << 20)
    with pytest.raises(ObjectNotFound):
        cache.place_files(stored_below("models/m", files), tmp_path / "model", should_stop=never)
    assert sorted(store.asked) == [f"model-{number}.safetensors" for number in range(4)]


def test_a_download_stops_when_nobody_wants_it_any_more(cache: HostCache, store: ObjectStore, tmp_path: Path) -> None:
    dataset = stored_dataset(store, b"content")
    with pytest.raises(TransferStopped):
        cache.place_dataset(dataset, tmp_path / "first", should_stop=lambda: True)
    assert not list((tmp_path / "first").iterdir())


def test_a_slow_download_holds_up_only_those_who_need_the_same(
    cache: HostCache, store: ObjectStore, tmp_path: Path
) -> None:
    slow, other = stored_dataset(store, b"slow"), stored_dataset(store, b"other")
    downloading, go_on = threading.Event(), threading.Event()

    def hold() -> bool:
        downloading.set()
        return not go_on.wait(30)

    first = threading.Thread(target=cache.place_dataset, args=(slow, tmp_path / "first"), kwargs={"should_stop": hold})
    first.start()
    try:
        assert downloading.wait(30)
        assert cache.place_dataset(other, tmp_path / "other", should_stop=never).read_bytes() == b"other"
        with pytest.raises(TransferStopped):
            cache.place_dataset(slow, tmp_path / "second", should_stop=lambda: True)
    finally:
        go_on.set()
        first.join()
    store.delete(slow.key)
    assert cache.place_dataset(slow, tmp_path / "third", should_stop=never).read_bytes() == b"slow"
