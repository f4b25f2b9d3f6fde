"""Content that is stored once: who keeps it, and that it goes exactly when nobody does."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from jobspecs.manifest import Manifest, ManifestFile
from jobspecs.pieces import MIB, StoredFile
from jobspecs.rights import Reach
from storage.database import Database
from storage.keeping import as_one_object, keep_file, keep_piece
from storage.objects import ObjectNotFound, ObjectSettings, ObjectStore, StoredObject
from storage.repositories.registry.blobs import BlobsGone
from workers.agent.housekeeping import Housekeeper

#: In one order: several do so at once.
_OVER = text("""
WITH locked AS (SELECT id FROM blobs ORDER BY sha256 FOR UPDATE)
UPDATE blobs SET keep_until = clock_timestamp() - interval '1 s' WHERE id IN (SELECT id FROM locked)
""")


class _Counting(ObjectStore):
    """Counts what is sent."""

    sent = 0

    def put_bytes(self, key: str, body: bytes) -> StoredObject:
        self.sent += len(body)
        return super().put_bytes(key, body)


@dataclass
class Scene:
    database: Database
    store: _Counting
    folder: Path

    def keep(self, content: bytes, path: str = "w") -> StoredFile:
        file = self.folder / "file"
        file.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        return keep_file(self.database, self.store, file, path, sha256=digest, should_stop=lambda: False)

    def version(self, file: StoredFile, owner: str = "ada") -> UUID:
        plain = ManifestFile(path=file.path, bytes=file.bytes, sha256=file.sha256)
        with self.database.unit_of_work() as work:
            made = work.models.add_version(
                work.users.ensure(owner).id, "m", manifest=Manifest(artifact="model", files=(plain,))
            )
            work.blobs.attach(made.id, {file.path: [piece.sha256 for piece in file.pieces]})
            return made.id

    def delete(self, version_id: UUID) -> int:
        with self.database.unit_of_work() as work:
            row = work.models.get_version(version_id)
            freed = work.removal.bytes_freed([row])
            work.removal.delete_models([row])
            return freed

    def sweep(self, *, later: bool = True) -> None:
        """`later`: when all that was held or deleted is over."""
        if later:
            with self.database.unit_of_work() as work:
                work.session.execute(_OVER)
        Housekeeper(self.database, self.store).sweep_garbage()

    def has(self, file: StoredFile) -> bool:
        found = []
        for piece in file.pieces:
            try:
                found.append(self.store.stat(piece.key).bytes == piece.bytes)
            except ObjectNotFound:
                found.append(False)
        assert len(set(found)) == 1
        return found[0]


@pytest.fixture
def scene(database_url: str, object_settings: dict[str, str], tmp_path: Path) -> Iterator[Scene]:
    database, store = Database(database_url), _Counting(ObjectSettings(**object_settings))  # type: ignore[arg-type]
    yield Scene(database, store, tmp_path)
    store.close()
    database.close()


def test_equal_content_is_sent_and_stored_once_and_goes_with_the_last_who_has_it(scene: Scene) -> None:
    content = os.urandom(20 * MIB)
    first = scene.keep(content)
    again = scene.keep(content, "other-name")
    assert scene.store.sent == len(content) and again.pieces == first.pieces and len(first.pieces) == 2
    one, other = scene.version(first), scene.version(again, "eve")
    assert scene.delete(one) == 0
    scene.sweep()
    assert scene.has(first)
    assert scene.delete(other) == len(content)
    scene.sweep(later=False)
    assert scene.has(first), "whoever has begun to pull it can go on for an hour"
    scene.sweep()
    assert not scene.has(first)


def test_a_push_that_was_cut_keeps_nothing_once_nothing_was_sent_for_a_day(scene: Scene) -> None:
    file = scene.keep(os.urandom(1000))
    with scene.database.unit_of_work() as work:
        owner = work.users.ensure("ada").id
        cut, going_on = (work.models.start_import(owner, "m").id for _ in range(2))
        work.blobs.keep_for_import(cut, {piece.sha256 for piece in file.pieces})
        work.session.execute(text("UPDATE model_imports SET created_at = created_at - interval '25 h'"))
    version = scene.version(file)
    scene.sweep()
    late = scene.keep(b"sent just now")
    with scene.database.unit_of_work() as work:
        work.blobs.keep_for_import(going_on, {piece.sha256 for piece in late.pieces})
        assert work.removal.bytes_freed([work.models.get_version(version)]) == 0
    Housekeeper(scene.database, scene.store).sweep()
    with scene.database.unit_of_work() as work:
        reach = Reach.of(owner)
        assert work.models.open_import(reach, cut) is None and work.models.open_import(reach, going_on) is not None
    assert scene.delete(version) == 1000


def test_what_changed_is_what_is_sent(scene: Scene) -> None:
    content = bytearray(os.urandom(40 * MIB))
    scene.version(scene.keep(bytes(content)))
    before = scene.store.sent
    content[-1] ^= 1
    changed = scene.keep(bytes(content))
    assert scene.store.sent - before == changed.pieces[-1].bytes == 8 * MIB
    target = scene.folder / "got"
    scene.store.download_stored(changed, target)
    assert target.read_bytes() == content
    with scene.store.open_stored(changed, 15 * MIB, 33 * MIB) as stream:
        assert b"".join(stream) == content[15 * MIB : 33 * MIB]


def test_content_that_goes_is_stored_anew_under_another_key(scene: Scene) -> None:
    """So a deletion that comes late hits nothing that a push meanwhile relies on."""
    content = os.urandom(1000)
    first = scene.keep(content)
    scene.sweep()
    second = scene.keep(content)
    assert first.pieces[0].key != second.pieces[0].key
    scene.version(second)
    scene.store.delete(first.pieces[0].key)
    scene.sweep()
    assert scene.has(second) and not scene.has(first)


def test_a_push_that_took_too_long_is_told_and_registers_nothing(scene: Scene) -> None:
    file = scene.keep(os.urandom(1000))
    scene.sweep()
    with pytest.raises(BlobsGone):
        scene.version(file)
    with scene.database.unit_of_work() as work:
        assert work.models.list_versions(Reach.of(work.users.ensure("ada").id)) == []


def test_pushes_and_sweeps_at_once_never_lose_what_is_registered(
    scene: Scene, in_parallel: Callable[..., list[object]]
) -> None:
    content = [os.urandom(1000) for _ in range(3)]

    def push_or_sweep(number: int) -> UUID | None:
        if number % 4 == 0:
            scene.sweep()
            return None
        try:
            piece = keep_piece(scene.database, scene.store, content[number % 3])
            file = StoredFile(path="w", bytes=piece.bytes, sha256=piece.sha256, pieces=(piece,))
            return scene.version(file, f"user-{number}")
        except BlobsGone:
            return None

    registered = [version_id for version_id in in_parallel(push_or_sweep, 24) if isinstance(version_id, UUID)]
    scene.sweep()
    with scene.database.reading() as work:
        # Not what was sent: a version refers to content, whose object may have gone and come anew between the two.
        files = [file for one in registered for file in work.blobs.files_of(work.models.get_version(one))]
    assert len(files) == len(registered) > 0 and all(scene.has(file) for file in files)


def test_an_object_that_was_lost_or_found_damaged_is_brought_back_by_the_next_push(scene: Scene) -> None:
    content = os.urandom(1000)
    file = scene.keep(content)
    scene.version(file)
    scene.store.delete(file.pieces[0].key)
    assert scene.keep(content).pieces == file.pieces and scene.has(file)
    scene.store.put_bytes(file.pieces[0].key, bytes(1000))
    with scene.database.unit_of_work() as work:
        work.blobs.doubt([file.pieces[0].key, "artifacts/of/old"])
    scene.keep(content)
    assert scene.store.get_bytes(file.pieces[0].key) == content


def test_a_file_of_pieces_is_put_together_once_for_who_needs_one_object(scene: Scene) -> None:
    content = os.urandom(33 * MIB)
    file = scene.keep(content)
    version = scene.version(file)
    key = as_one_object(scene.database, scene.store, file, for_s=600)
    assert as_one_object(scene.database, scene.store, file, for_s=600) == key
    with scene.store.open_range(key, 0, len(content)) as stream:
        assert b"".join(stream) == content
    scene.sweep()
    with pytest.raises(ObjectNotFound):
        scene.store.stat(key)
    assert scene.has(file)
    with scene.database.unit_of_work() as work:
        assert work.blobs.bytes_freed([version]) == len(content)


def test_only_what_somebody_can_read_is_known_to_them(scene: Scene) -> None:
    file = scene.keep(os.urandom(1000))
    scene.version(file, "ada")
    digest = file.pieces[0].sha256
    with scene.database.unit_of_work() as work:
        ada, eve = (work.users.ensure(name).id for name in ("ada", "eve"))
        assert work.blobs.readable(Reach.of(ada), {digest}) == {digest}
        assert work.blobs.readable(Reach.of(eve), {digest}) == set()
