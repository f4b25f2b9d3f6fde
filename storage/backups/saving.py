"""Makes a backup while the platform runs."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from storage.backups.archive import (
    DUMP,
    SECRETS,
    Archive,
    BackedUpObject,
    BackupError,
    BackupManifest,
    sha256_of,
    synchronise,
)
from storage.backups.postgres_programs import plain_url, run, server_version
from storage.objects import ObjectCorrupt, ObjectNotFound, ObjectStore

log = logging.getLogger(__name__)

#: Tables that are restored without their rows; see the package.
_WITHOUT_ROWS = (
    *("checkpoints", "model_imports", "model_import_files", "import_blobs"),
    *("host_instances", "hosts", "scheduler_leader", "upload_parts", "uploads"),
)
_NAMED = """
SELECT key, sha256, bytes FROM dataset_versions
UNION
SELECT version.prefix || '/' || (file->>'path'), file->>'sha256', (file->>'bytes')::bigint
FROM model_versions AS version, jsonb_array_elements(version.manifest->'files') AS file
WHERE version.prefix IS NOT NULL
UNION
SELECT 'blobs/' || blob.id, blob.sha256, blob.bytes FROM blobs AS blob
WHERE EXISTS (SELECT FROM model_pieces WHERE blob_id = blob.id)
ORDER BY 1
"""
#: Dumps that are made in all when objects vanish meanwhile.
_DUMPS_MAX = 3
_COPIES_AT_ONCE = 4
_WITHOUT_CHECKPOINTS = "checkpoints are not in it: a job that is under way now starts anew when this is restored"
_SAY_EVERY_S = 5.0


def save(
    folder: Path,
    *,
    database_url: str,
    store: ObjectStore,
    programs: Path | None,
    secrets: Path | None = None,
    keep: int | None = None,
) -> tuple[Path, BackupManifest]:
    """Makes a backup in `folder` and returns where it is. `secrets` is a file that is put into it.

    When it is finished all but the newest `keep` backups are removed; None: none. Raises BackupError: no backup has
    been added then, unless a kept one is damaged, which is found after this one was finished.
    """
    archive = Archive(folder)
    with archive.locked():
        draft = archive.begin()
        for dumps_left in reversed(range(_DUMPS_MAX)):
            revision, named = _dump(draft / DUMP, database_url, programs)
            damaged = _copy(archive, store, named)
            if not damaged:
                break
            if dumps_left:
                log.info("%d objects are gone since the dump: making it anew", len(damaged))
        if secrets is not None:
            shutil.copyfile(secrets, draft / SECRETS)
            (draft / SECRETS).chmod(0o600)
        dump = draft / DUMP
        manifest = BackupManifest(
            made_at=datetime.now(UTC),
            revision=revision,
            dump_bytes=dump.stat().st_size,
            dump_sha256=sha256_of(dump),
            objects=[entry for entry in named if entry.key not in damaged],
            damaged=sorted(damaged),
        )
        finished = archive.finish(draft, manifest)
        for removed in archive.prune(keep) if keep is not None else ():
            log.info("removed %s", removed)
        log.info("%s", _WITHOUT_CHECKPOINTS)
        return finished, manifest


def _dump(target: Path, database_url: str, programs: Path | None) -> tuple[str, Sequence[BackedUpObject]]:
    """Dumps the database; returns its revision and the objects that the very same snapshot names."""
    try:
        with psycopg.connect(plain_url(database_url), connect_timeout=10) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            snapshot = connection.execute("SELECT pg_export_snapshot()").fetchone()
            rows = connection.execute(_NAMED).fetchall()
            if revision is None or snapshot is None:
                raise BackupError("the database has no schema yet; there is nothing to save")
            without = [f"--exclude-table-data=public.{table}" for table in _WITHOUT_ROWS]
            run(
                "pg_dump",
                ["--format=custom", f"--snapshot={snapshot[0]}", f"--file={target}", *without],
                database_url=database_url,
                server_version=server_version(connection),
                programs=programs,
            )
    except psycopg.errors.UndefinedTable as error:
        raise BackupError("the database has no schema yet; there is nothing to save") from error
    except psycopg.OperationalError as error:
        raise BackupError(f"the database does not answer: {str(error).strip()}") from error
    return str(revision[0]), [BackedUpObject(key=key, sha256=digest, bytes=size) for key, digest, size in rows]


def _copy(archive: Archive, store: ObjectStore, named: Sequence[BackedUpObject]) -> set[str]:
    """Copies what is not there yet; returns the keys whose bytes could not be had. What a copy brings is verified."""
    missing = {entry.sha256: entry for entry in named if not _is_kept(archive, entry)}
    total, done, said_at = sum(entry.bytes for entry in missing.values()), 0, time.monotonic()
    log.info("%d objects, %d of them new (%.1f MB)", len(named), len(missing), total / 1e6)
    unavailable: set[str] = set()

    def fetch(entry: BackedUpObject) -> bool:
        target = archive.object_path(entry.sha256)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            store.download_file(entry.key, target, sha256=entry.sha256, bytes_total=entry.bytes)
        except (ObjectNotFound, ObjectCorrupt) as error:
            log.warning("%s: %s", entry.key, error)
            return False
        target.chmod(0o600)
        synchronise(target)
        return True

    with ThreadPoolExecutor(_COPIES_AT_ONCE, thread_name_prefix="backup") as pool:
        for entry, fetched in zip(missing.values(), pool.map(fetch, missing.values()), strict=True):
            if not fetched:
                unavailable.add(entry.sha256)
            done += entry.bytes
            if time.monotonic() - said_at > _SAY_EVERY_S:
                log.info("copied %.1f of %.1f MB", done / 1e6, total / 1e6)
                said_at = time.monotonic()
    return {entry.key for entry in named if entry.sha256 in unavailable}


def _is_kept(archive: Archive, entry: BackedUpObject) -> bool:
    path = archive.object_path(entry.sha256)
    return path.exists() and path.stat().st_size == entry.bytes
