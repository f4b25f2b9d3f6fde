"""Restores a backup into an empty platform."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from storage.backups.archive import DUMP, Archive, BackedUpObject, BackupError, BackupManifest, read_manifest
from storage.backups.postgres_programs import plain_url, run, server_version
from storage.migrate import upgrade
from storage.objects import ObjectCorrupt, ObjectStore
from storage.schema import own_revision, scripts

log = logging.getLogger(__name__)

_UPLOADS_AT_ONCE = 4
_SAY_EVERY_S = 5.0


def restore(
    folder: Path, *, database_url: str, store: ObjectStore, programs: Path | None
) -> tuple[Path, BackupManifest]:
    """Restores the newest backup of `folder` and brings the database to this version's schema.

    Objects first, the database last and in one transaction: an interrupted restore leaves an empty platform, and may
    be repeated. Raises BackupError; a platform that holds anything is not touched.
    """
    archive = Archive(folder)
    backup, manifest = restorable(folder)
    version = _refuse_used_database(database_url)
    store.ensure_bucket()
    _refuse_used_bucket(store, manifest)
    _upload(archive, store, manifest)
    run(
        "pg_restore",
        ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--dbname=", str(backup / DUMP)],
        database_url=database_url,
        server_version=version,
        programs=programs,
    )
    upgrade(database_url)
    _forget_blobs_without_objects(database_url)
    return backup, manifest


def _forget_blobs_without_objects(database_url: str) -> None:
    """Those that only pushes referred to, or nobody any more, are in the dump and not among the objects."""
    with psycopg.connect(plain_url(database_url), connect_timeout=10) as connection:
        connection.execute(
            "DELETE FROM blobs WHERE NOT EXISTS (SELECT FROM model_pieces WHERE model_pieces.blob_id = blobs.id)"
        )


def restorable(folder: Path) -> tuple[Path, BackupManifest]:
    """The newest backup of `folder`. Raises BackupError when it can't be restored, wherever to."""
    archive = Archive(folder)
    backup = archive.newest()
    manifest = read_manifest(backup)
    if manifest.revision not in {script.revision for script in scripts().walk_revisions()}:
        raise BackupError(
            f"{backup} is of a newer version of Eigenwerk (schema {manifest.revision}; this has {own_revision()}); "
            "restore it with that version"
        )
    for entry in manifest.objects:
        path = archive.object_path(entry.sha256)
        if not path.exists() or path.stat().st_size != entry.bytes:
            raise _lost(path, entry)
    return backup, manifest


def _lost(path: Path, entry: BackedUpObject) -> BackupError:
    return BackupError(f"{path} is missing or damaged, and {entry.key} needs it; bring it back, or use an older backup")


def _refuse_used_database(database_url: str) -> int:
    """Returns the server's version. Raises BackupError when the database has a table."""
    try:
        with psycopg.connect(plain_url(database_url), connect_timeout=10) as connection:
            used = connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'public' LIMIT 1").fetchone()
            if used:
                raise BackupError(
                    "this platform is not empty: its database has tables. "
                    "Restore into a new --home, or an empty database"
                )
            return server_version(connection)
    except psycopg.OperationalError as error:
        raise BackupError(f"the database does not answer: {str(error).strip()}") from error


def _refuse_used_bucket(store: ObjectStore, manifest: BackupManifest) -> None:
    ours = {entry.key for entry in manifest.objects}
    for info in store.list():
        if info.key not in ours:
            raise BackupError(
                f"this platform is not empty: its bucket {store.settings.bucket} holds {info.key}, which is not in the "
                "backup. Restore into a new --home, or an empty bucket"
            )


def _upload(archive: Archive, store: ObjectStore, manifest: BackupManifest) -> None:
    """Sends every object and verifies it as it is read."""
    total, done, said_at = sum(entry.bytes for entry in manifest.objects), 0, time.monotonic()
    log.info("%d objects (%.1f MB)", len(manifest.objects), total / 1e6)

    def send(entry: BackedUpObject) -> int:
        path = archive.object_path(entry.sha256)
        try:
            store.upload_file(path, entry.key, sha256=entry.sha256)
        except (FileNotFoundError, ObjectCorrupt) as error:
            raise _lost(path, entry) from error
        return entry.bytes

    with ThreadPoolExecutor(_UPLOADS_AT_ONCE, thread_name_prefix="restore") as pool:
        for sent in pool.map(send, manifest.objects):
            done += sent
            if time.monotonic() - said_at > _SAY_EVERY_S:
                log.info("sent %.1f of %.1f MB", done / 1e6, total / 1e6)
                said_at = time.monotonic()
