"""`backup` of a platform that runs, and `restore` into a new home."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from deploy.embedded.api_address import ApiAddress
from deploy.embedded.platform import _announced, _token_file
from deploy.embedded.stack import EmbeddedServices
from jobspecs.manifest import Manifest, describe_files
from storage.database import Database
from storage.migrate import ensure_admin, upgrade
from storage.objects import ObjectSettings, ObjectStore


def eigenwerk(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eigenwerk.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def opened(services: EmbeddedServices) -> Iterator[tuple[Database, ObjectStore]]:
    access = services.object_access
    database = Database(services.database_url)
    store = ObjectStore(ObjectSettings(access.endpoint, access.access_key, access.secret_key, bucket=access.bucket))
    yield database, store
    store.close()
    database.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    EmbeddedServices(tmp_path / "home").remove_data()


@pytest.fixture
def new_home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "new"
    EmbeddedServices(tmp_path / "new").remove_data()


def test_a_running_platform_is_saved_and_restored_into_a_new_home(home: Path, new_home: Path, tmp_path: Path) -> None:
    backups, model = tmp_path / "backups", tmp_path / "model"
    model.mkdir()
    (model / "weights.safetensors").write_bytes(b"weights" * 10_000)
    files, prefix = describe_files(model), f"models/{uuid4()}"
    with EmbeddedServices(home, durable=False) as services, opened(services) as (database, store):
        token_file = _token_file(services.home)
        token = token_file.read_text().strip()
        upgrade(services.database_url)
        ensure_admin(services.database_url, token)
        with _announced(services, ApiAddress("127.0.0.1", 1), token_file, None):
            store.upload_file(model / files[0].path, f"{prefix}/{files[0].path}")
            with database.unit_of_work() as work:
                owner = work.users.ensure("admin")
                work.models.add_version(
                    owner.id, "kept", prefix=prefix, manifest=Manifest(artifact="model", files=files)
                )
            plain = eigenwerk("backup", str(backups), "--home", str(home), "--json")
            assert plain.returncode == 0, plain.stderr
            without = Path(json.loads(plain.stdout)["backup"])
            assert not (without / "secrets.json").exists()
            done = eigenwerk("backup", str(backups), "--home", str(home), "--with-secrets", "--keep", "1")
            assert done.returncode == 0, done.stderr
            assert "1 objects, 0 of them new" in done.stderr
            assert not without.exists(), "one is kept"
            assert "starts anew" in done.stderr
            for secret in ("postgres_password", "s3_secret_key", "admin_token"):
                assert services.home.secret(secret) not in done.stdout + done.stderr
            refused = eigenwerk("restore", str(backups), "--home", str(home))
            assert refused.returncode == 1
            assert "a platform is running on" in refused.stderr
    kept = max(backups.glob("2*/secrets.json"))
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    restored = eigenwerk("restore", str(backups), "--home", str(new_home), "--json")
    assert restored.returncode == 0, restored.stderr
    again = eigenwerk("restore", str(backups), "--home", str(new_home))
    assert again.returncode == 1
    assert "this platform is not empty" in again.stderr
    with EmbeddedServices(new_home, durable=False) as services, opened(services) as (database, store):
        # The token that people have is the one that `up` lets in.
        assert f"ew_{services.home.secret('admin_token')}" == token
        with database.unit_of_work() as work:
            assert work.users.authenticate(token) is not None
        copy = tmp_path / "copy"
        store.download_file(f"{prefix}/{files[0].path}", copy, sha256=files[0].sha256, bytes_total=files[0].bytes)
        assert services.home.secret("postgres_password") not in kept.read_text()


def test_there_must_be_a_backup_to_restore(new_home: Path, tmp_path: Path) -> None:
    done = eigenwerk("restore", str(tmp_path), "--home", str(new_home))
    assert done.returncode == 1
    assert "there is no finished backup in" in done.stderr
