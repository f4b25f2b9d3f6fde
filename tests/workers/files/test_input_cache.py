from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from jobspecs.frozen import FrozenDataset, FrozenRegistryModel
from jobspecs.manifest import ManifestFile
from storage.objects import ObjectCorrupt, ObjectNotFound, ObjectSettings, ObjectStore, TransferStopped
from workers.files.input_cache import InputCache


def never() -> bool:
    return False


@pytest.fixture
def store(object_settings: dict[str, str]) -> Iterator[ObjectStore]:
    made = ObjectStore(ObjectSettings(**object_settings))  # type: ignore[arg-type]
    yield made
    made.close()


@pytest.fixture
def cache(tmp_path: Path, store: ObjectStore) -> InputCache:
    return InputCache(tmp_path / "cache", store, bytes_max=1000)


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


def test_the_second_use_needs_no_store(cache: InputCache, store: ObjectStore, tmp_path: Path) -> None:
    dataset = stored_dataset(store, b"content")
    cache.place_dataset(dataset, tmp_path / "first", should_stop=never)
    store.delete(dataset.key)
    assert cache.place_dataset(dataset, tmp_path / "second", should_stop=never).read_bytes() == b"content"


def test_a_cached_file_that_changed_on_disk_is_fetched_again(
    cache: InputCache, store: ObjectStore, tmp_path: Path
) -> None:
    dataset = stored_dataset(store, b"content")
    cache.place_dataset(dataset, tmp_path / "first", should_stop=never)
    cached = tmp_path / "cache" / "sha256" / dataset.sha256
    cached.chmod(0o644)
    cached.write_bytes(b"c0ntent")
    assert cache.place_dataset(dataset, tmp_path / "second", should_stop=never).read_bytes() == b"content"


def test_a_damaged_object_is_refused_and_not_cached(cache: InputCache, store: ObjectStore, tmp_path: Path) -> None:
    dataset = stored_dataset(store, b"content")
    store.put_bytes(dataset.key, b"c0ntent")
    for attempt in range(2):
        with pytest.raises(ObjectCorrupt):
            cache.place_dataset(dataset, tmp_path / str(attempt), should_stop=never)
    assert not list((tmp_path / "cache" / "sha256").iterdir())


def test_a_missing_object_is_told_by_its_key(cache: InputCache, store: ObjectStore, tmp_path: Path) -> None:
    dataset = stored_dataset(store, b"content")
    store.delete(dataset.key)
    with pytest.raises(ObjectNotFound, match=dataset.key):
        cache.place_dataset(dataset, tmp_path / "first", should_stop=never)


def test_what_was_unused_for_longest_makes_room_and_attempts_keep_their_files(
    cache: InputCache, store: ObjectStore, tmp_path: Path
) -> None:
    old, recent, new = (stored_dataset(store, bytes([letter]) * 400) for letter in b"abc")
    placed = cache.place_dataset(old, tmp_path / "old", should_stop=never)
    cache.place_dataset(recent, tmp_path / "recent", should_stop=never)
    os.utime(tmp_path / "cache" / "sha256" / old.sha256, (1, 1))
    cache.place_dataset(new, tmp_path / "new", should_stop=never)
    names = {path.name for path in (tmp_path / "cache" / "sha256").iterdir()}
    assert names == {recent.sha256, new.sha256}
    assert placed.read_bytes() == b"a" * 400


def test_a_models_files_lie_under_their_paths(cache: InputCache, store: ObjectStore, tmp_path: Path) -> None:
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


def test_a_download_stops_when_nobody_wants_it_any_more(cache: InputCache, store: ObjectStore, tmp_path: Path) -> None:
    dataset = stored_dataset(store, b"content")
    with pytest.raises(TransferStopped):
        cache.place_dataset(dataset, tmp_path / "first", should_stop=lambda: True)
    assert not list((tmp_path / "first").iterdir())


def test_a_slow_download_holds_up_only_those_who_need_the_same(
    cache: InputCache, store: ObjectStore, tmp_path: Path
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
