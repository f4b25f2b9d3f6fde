"""A backup is whole or not there, copies each object once, and is proven by restoring it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text

from deploy.embedded.postgres_placement import wheel_folder
from jobspecs.manifest import Manifest, ManifestFile, describe_files
from jobspecs.pieces import MIB
from jobspecs.rights import Reach
from storage.backups.archive import Archive, BackupError
from storage.backups.restoring import restore
from storage.backups.saving import save
from storage.database import Database
from storage.keeping import keep_file
from storage.objects import ObjectSettings, ObjectStore, StoredObject

PROGRAMS = wheel_folder() / "pginstall" / "bin"


@dataclass(frozen=True)
class Target:
    """An empty platform."""

    database_url: str
    store: ObjectStore

    def restore(self, folder: Path) -> Path:
        return restore(folder, database_url=self.database_url, store=self.store, programs=PROGRAMS)[0]


@pytest.fixture
def store(object_settings: dict[str, str]) -> Iterator[ObjectStore]:
    yield from _bucket(object_settings)


@pytest.fixture
def target(empty_database_url: str, object_settings: dict[str, str]) -> Iterator[Target]:
    for store in _bucket(object_settings):
        yield Target(empty_database_url, store)


def _bucket(object_settings: dict[str, str]) -> Iterator[ObjectStore]:
    """A bucket of the test's own."""
    endpoint, access_key, secret_key = (object_settings[name] for name in ("endpoint_url", "access_key", "secret_key"))
    made = ObjectStore(ObjectSettings(endpoint, access_key, secret_key, bucket=f"backup-{uuid4().hex[:12]}"))
    made.ensure_bucket()
    yield made
    made.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    yield made
    made.close()


def register(database: Database, store: ObjectStore, folder: Path, *contents: bytes) -> Manifest:
    """A model of those files, stored first and committed then, as the platform does it."""
    folder.mkdir()
    for number, content in enumerate(contents):
        (folder / f"part-{number}.safetensors").write_bytes(content)
    files = describe_files(folder)
    prefix = f"models/{uuid4()}"
    for file in files:
        store.upload_file(folder / file.path, f"{prefix}/{file.path}")
    manifest = Manifest(artifact="model", files=files)
    with database.unit_of_work() as work:
        owner = work.users.ensure("somebody")
        work.models.add_version(owner.id, folder.name, prefix=prefix, manifest=manifest)
    return manifest


def register_pieces(database: Database, store: ObjectStore, folder: Path, content: bytes) -> ManifestFile:
    """A model of one file that is stored in pieces, and pieces of a push that came to nothing."""
    for name in ("nothing", "weights"):
        file = folder / name
        file.write_bytes(content if name == "weights" else b"nobody's")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        kept = keep_file(database, store, file, "w", sha256=digest, should_stop=lambda: False)
    plain = ManifestFile(path="w", bytes=kept.bytes, sha256=kept.sha256)
    with database.unit_of_work() as work:
        owner = work.users.ensure("somebody")
        row = work.models.add_version(owner.id, "pieces", manifest=Manifest(artifact="model", files=(plain,)))
        work.blobs.attach(row.id, {"w": [piece.sha256 for piece in kept.pieces]})
    return plain


def test_what_is_stored_in_pieces_is_restored_and_what_is_not_in_the_backup_is_sent_again(
    database_url: str, database: Database, store: ObjectStore, target: Target, tmp_path: Path
) -> None:
    file = register_pieces(database, store, tmp_path, os.urandom(17 * MIB))
    _, manifest = save(tmp_path / "backups", database_url=database_url, store=store, programs=PROGRAMS)
    assert [entry.bytes for entry in manifest.objects] in ([16 * MIB, MIB], [MIB, 16 * MIB])
    target.restore(tmp_path / "backups")
    there = Database(target.database_url)
    with there.unit_of_work() as work:
        (row,) = work.models.list_versions(Reach.of(work.users.ensure("somebody").id))
        (stored,) = work.blobs.files_of(row)
        known = work.session.scalar(text("SELECT count(*) FROM blobs"))
    target.store.download_stored(stored, tmp_path / "copy")
    assert hashlib.sha256((tmp_path / "copy").read_bytes()).hexdigest() == file.sha256
    assert known == 2, "a push of what isn't in the backup must not find it there"
    there.close()


def verified_files(target: Target, folder: Path) -> set[str]:
    """Reads every file that the database names and checks it by its manifest."""
    with psycopg.connect(target.database_url.replace("+psycopg", "")) as connection:
        rows = connection.execute("SELECT prefix, manifest FROM model_versions").fetchall()
    found = set()
    for prefix, document in rows:
        for file in Manifest.model_validate(document).files:
            copy = folder / uuid4().hex
            target.store.download_file(f"{prefix}/{file.path}", copy, sha256=file.sha256, bytes_total=file.bytes)
            found.add(file.sha256)
    return found


def test_a_restored_platform_has_every_row_and_every_byte(
    database_url: str,
    database: Database,
    store: ObjectStore,
    target: Target,
    tmp_path: Path,
) -> None:
    first = register(database, store, tmp_path / "one", b"weights" * 1000, b"more")
    second = register(database, store, tmp_path / "two", b"weights" * 1000)
    with database.unit_of_work() as work:
        work.users.add_token(work.users.ensure("somebody").id, "ew_kept", scopes=("read",))
    backup, manifest = save(tmp_path / "backups", database_url=database_url, store=store, programs=PROGRAMS)
    # Two objects with the same bytes are kept once.
    assert len(manifest.objects) == 3
    assert len(list((tmp_path / "backups" / "objects").glob("*/*"))) == 2
    assert stat.S_IMODE((tmp_path / "backups").stat().st_mode) == 0o700
    assert not (backup / "secrets.json").exists()
    assert b"ew_kept" not in b"".join(path.read_bytes() for path in backup.iterdir())

    restored = target.restore(tmp_path / "backups")
    assert restored == backup
    expected = {file.sha256 for model in (first, second) for file in model.files}
    assert verified_files(target, tmp_path) == expected
    there = Database(target.database_url)
    with there.unit_of_work() as work:
        assert work.users.authenticate("ew_kept") is not None
    there.close()


def test_a_second_backup_copies_only_what_is_new(
    database_url: str, database: Database, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(database, store, tmp_path / "one", b"first")
    save(tmp_path / "backups", database_url=database_url, store=store, programs=PROGRAMS)
    new = register(database, store, tmp_path / "two", b"second")
    fetched: list[str] = []
    download = store.download_file

    def note(key: str, path: Path, *, sha256: str, bytes_total: int) -> StoredObject:
        fetched.append(key)
        return download(key, path, sha256=sha256, bytes_total=bytes_total)

    monkeypatch.setattr(store, "download_file", note)
    _, manifest = save(tmp_path / "backups", database_url=database_url, store=store, programs=PROGRAMS)
    assert [entry.key for entry in manifest.objects if entry.sha256 == new.files[0].sha256] == fetched


def test_jobs_that_commit_meanwhile_are_in_it_whole_or_not_at_all(
    database_url: str,
    database: Database,
    store: ObjectStore,
    target: Target,
    tmp_path: Path,
) -> None:
    stop = threading.Event()
    made: list[str] = []

    def commit() -> None:
        while not stop.is_set():
            number = len(made)
            made.extend(
                file.sha256 for file in register(database, store, tmp_path / f"m{number}", os.urandom(64)).files
            )

    worker = threading.Thread(target=commit)
    worker.start()
    try:
        while len(made) < 3:
            pass
        before = len(made)
        save(tmp_path / "backups", database_url=database_url, store=store, programs=PROGRAMS)
    finally:
        stop.set()
        worker.join()
    target.restore(tmp_path / "backups")
    assert set(made[:before]) <= verified_files(target, tmp_path)


def test_what_is_deleted_while_it_is_copied_makes_a_new_dump(
    database_url: str, database: Database, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(database, store, tmp_path / "kept", b"kept")
    register(database, store, tmp_path / "deleted", b"deleted")
    download = store.download_file
    gone = hashlib.sha256(b"deleted").hexdigest()

    def delete_before(key: str, path: Path, *, sha256: str, bytes_total: int) -> StoredObject:
        if sha256 == gone:
            prefix = key.rpartition("/")[0]
            with database.unit_of_work() as work:
                work.session.execute(text("DELETE FROM model_versions WHERE prefix = :p"), {"p": prefix})
            store.delete(prefix)
        return download(key, path, sha256=sha256, bytes_total=bytes_total)

    monkeypatch.setattr(store, "download_file", delete_before)
    _, manifest = save(tmp_path / "backups", database_url=database_url, store=store, programs=PROGRAMS)
    assert [entry.sha256 for entry in manifest.objects] == [hashlib.sha256(b"kept").hexdigest()]
    assert manifest.damaged == []


def test_an_object_that_the_store_lost_is_named_and_the_rest_is_saved(
    database_url: str, database: Database, store: ObjectStore, tmp_path: Path
) -> None:
    register(database, store, tmp_path / "one", b"kept", b"lost")
    with database.unit_of_work() as work:
        prefix = work.session.scalar(text("SELECT prefix FROM model_versions"))
    store.delete(f"{prefix}/part-1.safetensors")
    _, manifest = save(tmp_path / "backups", database_url=database_url, store=store, programs=PROGRAMS)
    assert manifest.damaged == [f"{prefix}/part-1.safetensors"]
    assert len(manifest.objects) == 1


def test_a_half_backup_is_never_restored(
    database_url: str,
    database: Database,
    store: ObjectStore,
    target: Target,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(database, store, tmp_path / "one", b"first")

    def fail(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(store, "download_file", fail)
        with pytest.raises(OSError, match="full"):
            save(tmp_path / "backups", database_url=database_url, store=store, programs=PROGRAMS)
    with pytest.raises(BackupError, match="no finished backup"):
        target.restore(tmp_path / "backups")

    backup, manifest = save(tmp_path / "backups", database_url=database_url, store=store, programs=PROGRAMS)
    assert [path.name for path in (tmp_path / "backups").iterdir() if path.name.endswith(".part")] == []
    kept = tmp_path / "backups" / "objects" / manifest.objects[0].sha256[:2] / manifest.objects[0].sha256
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + b"?")
    with pytest.raises(BackupError, match="missing or damaged"):
        target.restore(tmp_path / "backups")
    kept.write_bytes(whole)
    with (backup / "database.dump").open("ab") as stream:
        stream.write(b"?")
    with pytest.raises(BackupError, match=r"database\.dump is damaged"):
        target.restore(tmp_path / "backups")
    os.truncate(backup / "database.dump", manifest.dump_bytes)
    target.restore(tmp_path / "backups")


def test_a_platform_that_holds_anything_is_not_restored_over(
    database_url: str,
    database: Database,
    store: ObjectStore,
    target: Target,
    tmp_path: Path,
) -> None:
    register(database, store, tmp_path / "one", b"first")
    save(tmp_path / "backups", database_url=database_url, store=store, programs=PROGRAMS)
    with pytest.raises(BackupError, match="its database has tables"):
        replace(target, database_url=database_url).restore(tmp_path / "backups")
    target.store.put_bytes("somebody/else", b"theirs")
    with pytest.raises(BackupError, match="holds somebody/else"):
        target.restore(tmp_path / "backups")
    assert [info.key for info in target.store.list()] == ["somebody/else"]


def test_a_backup_of_a_newer_version_is_refused_before_anything_is_touched(
    database_url: str,
    database: Database,
    store: ObjectStore,
    target: Target,
    tmp_path: Path,
) -> None:
    register(database, store, tmp_path / "one", b"first")
    backup, _ = save(tmp_path / "backups", database_url=database_url, store=store, programs=PROGRAMS)
    document = json.loads((backup / "manifest.json").read_text())
    (backup / "manifest.json").write_text(json.dumps({**document, "revision": "9999"}))
    with pytest.raises(BackupError, match="newer version"):
        target.restore(tmp_path / "backups")
    assert list(target.store.list()) == []


def test_of_older_backups_as_many_are_kept_as_asked_for_and_the_oldest_of_them_is_whole(
    database_url: str, database: Database, store: ObjectStore, target: Target, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    places: dict[str, Any] = {"database_url": database_url, "store": store, "programs": PROGRAMS}
    made, digests = [], []
    for number in range(3):
        register(database, store, tmp_path / f"m{number}", b"in all", f"only in {number}".encode())
        made.append(save(folder, **places, keep=2)[0])
        digests.append({file.name for file in (folder / "objects").glob("*/*")})
        with database.unit_of_work() as work:
            work.session.execute(text("DELETE FROM model_versions"))
    assert sorted(path.parent for path in folder.glob("*/manifest.json")) == made[1:]
    assert hashlib.sha256(b"only in 0").hexdigest() in digests[1] - digests[2]
    assert {hashlib.sha256(b"in all").hexdigest(), hashlib.sha256(b"only in 1").hexdigest()} <= digests[2]
    with pytest.MonkeyPatch.context() as patch:
        # The oldest that was kept, as if the newer one were lost.
        patch.setattr(Archive, "newest", lambda _: made[1])
        assert target.restore(folder) == made[1]
    assert verified_files(target, tmp_path) == {
        hashlib.sha256(content).hexdigest() for content in (b"in all", b"only in 1")
    }


def test_a_backup_is_the_newest_and_stays_though_the_clock_was_set_back(
    database_url: str, database: Database, store: ObjectStore, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    places: dict[str, Any] = {"database_url": database_url, "store": store, "programs": PROGRAMS}
    register(database, store, tmp_path / "one", b"one")
    save(folder, **places)[0].rename(folder / "2999-12-31T23-59-59.999999Z")
    register(database, store, tmp_path / "two", b"two")
    made, manifest = save(folder, **places, keep=1)
    assert Archive(folder).newest() == made
    assert [path.parent for path in folder.glob("*/manifest.json")] == [made]
    assert all(Archive(folder).object_path(entry.sha256).exists() for entry in manifest.objects)
    made.rename(folder / "3-last")
    with pytest.raises(BackupError, match=r"3-last .* its name is no time"):
        save(folder, **places, keep=1)


def test_nothing_is_removed_while_a_kept_backup_can_not_be_read(
    database_url: str, database: Database, store: ObjectStore, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    places: dict[str, Any] = {"database_url": database_url, "store": store, "programs": PROGRAMS}
    register(database, store, tmp_path / "one", b"one")
    made = [save(folder, **places)[0] for _ in range(2)]
    newer = json.loads((made[1] / "manifest.json").read_text()) | {"format": 2}
    for text_there, said in (("{}", "damaged"), (json.dumps(newer), "newer version")):
        (made[1] / "manifest.json").write_text(text_there)
        with pytest.raises(BackupError, match=said):
            save(folder, **places, keep=2)
        made[1] = max(path.parent for path in folder.glob("*/manifest.json"))
    assert made[0].exists() and len(list((folder / "objects").glob("*/*"))) == 1
