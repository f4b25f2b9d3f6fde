"""What can't be done is found before anything is made: no home, no folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sysconfig
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.embedded import postgres_placement, redis
from deploy.embedded.api_address import choose_address
from deploy.embedded.backups import backup, restore
from deploy.embedded.errors import EmbeddedError
from deploy.embedded.first_checks import check_folder, check_start
from deploy.embedded.given import Given
from deploy.embedded.home import Home
from deploy.embedded.platform import project_root
from storage.backups.archive import Archive, BackedUpObject, BackupManifest, sha256_of
from storage.schema import own_revision
from tests.certificates import certificate_in
from tests.deploy.test_backups import eigenwerk


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where nothing may be made."""
    return tmp_path / "here" / "home"


def one_line(error: pytest.ExceptionInfo[EmbeddedError]) -> str:
    text = str(error.value)
    assert "\n" not in text and "Errno" not in text and "Traceback" not in text
    return text


def made_backup(folder: Path, *, revision: str) -> None:
    """A finished backup with one object, which is lost."""
    folder.mkdir()
    draft = Archive(folder).begin()
    (draft / "database.dump").write_bytes(b"dump")
    manifest = BackupManifest(
        made_at=datetime.now(UTC),
        revision=revision,
        dump_bytes=4,
        dump_sha256=sha256_of(draft / "database.dump"),
        objects=[BackedUpObject(key="models/a/w.safetensors", sha256="f" * 64, bytes=3)],
        damaged=[],
    )
    Archive(folder).finish(draft, manifest)


def test_up_makes_nothing_when_its_port_is_taken(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = eigenwerk("up", "--home", str(home), "--port", str(taken.getsockname()[1]))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "choose another with --port" in done.stderr
    assert not home.parent.exists()


def test_up_makes_nothing_when_its_certificate_cannot_be_used(home: Path, tmp_path: Path) -> None:
    certificate, key = certificate_in(tmp_path / "ours")
    _, others_key = certificate_in(tmp_path / "others")
    for arguments, words in {
        ("--tls-cert", certificate): "a certificate and its key belong together",
        ("--tls-cert", certificate, "--tls-key", others_key): "are no certificate with its key (KEY_VALUES_MISMATCH)",
        ("--tls-cert", certificate, "--tls-key", tmp_path / "absent"): "key (No such file or directory)",
    }.items():
        done = eigenwerk("up", "--home", str(home), *map(str, arguments))
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert words in done.stderr
    assert choose_address(None, {"EIGENWERK_TLS_CERT": str(certificate), "EIGENWERK_TLS_KEY": str(key)}).certificate
    assert not home.parent.exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"EIGENWERK_LEASE_S": "many"}, "EIGENWERK_LEASE_S=many is no number of seconds"),
        ({"EIGENWERK_SLOTS": "two"}, "EIGENWERK_SLOTS=two is no whole number of at least 0"),
        ({"EIGENWERK_HEARTBEAT_S": "100"}, "less than EIGENWERK_SELF_FENCE_S"),
        ({"EIGENWERK_REDIS_URL": "redis://127.0.0.1:1/0"}, "EIGENWERK_REDIS_URL .* can't be used"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_a_home_is_made(
    home: Path, settings: dict[str, str], words: str
) -> None:
    environment = {"PATH": os.environ["PATH"], **settings}
    with pytest.raises(EmbeddedError, match=words) as refused:
        check_start(home, Given.from_environment(environment), environment, project_root())
    one_line(refused)
    assert not home.parent.exists()


def test_a_program_that_is_missing_is_named_before_a_home_is_made(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(postgres_placement, "_PACKAGE", "absent_package")
    with pytest.raises(EmbeddedError, match="no PostgreSQL found"):
        check_start(home, Given(), {}, project_root())
    monkeypatch.undo()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(redis, "binary", lambda: Path("redis-server"))
    with pytest.raises(EmbeddedError, match="no SeaweedFS"):
        check_start(home, Given(), {}, project_root())
    assert not home.parent.exists()


def test_a_home_that_is_a_file_or_in_use_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("a")
    for path in (tmp_path / "own.csv", tmp_path / "own.csv" / "home"):
        with pytest.raises(EmbeddedError, match="is no folder; choose one") as refused:
            check_start(path, Given(), {}, project_root())
        one_line(refused)
    (tmp_path / "used").mkdir()
    with Home(tmp_path / "used").locked(), pytest.raises(EmbeddedError, match="is running on"):
        check_start(tmp_path / "used", Given(), {}, project_root())


def test_a_folder_that_one_may_not_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(EmbeddedError, match=f"cannot do it: you may not write into {tmp_path}; do else"):
        check_folder(tmp_path / "new" / "er", "cannot do it", "do else")


def test_a_backup_goes_into_a_folder_and_makes_no_platform(home: Path, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("a")
    with pytest.raises(EmbeddedError, match="it is no folder; name a folder for backups") as refused:
        backup(home, tmp_path / "own.csv", with_secrets=False)
    one_line(refused)
    with pytest.raises(EmbeddedError, match="there is no platform in"):
        backup(home, tmp_path / "backups", with_secrets=False)
    assert not home.parent.exists()
    assert not (tmp_path / "backups").exists()


def test_what_cannot_be_restored_makes_no_home(home: Path, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("a")
    made_backup(tmp_path / "newer", revision="9999")
    made_backup(tmp_path / "lost", revision=own_revision())
    made_backup(tmp_path / "broken", revision=own_revision())
    next((tmp_path / "broken").glob("2*/manifest.json")).write_text(json.dumps({"format": 1}))
    for name, words in {
        "own.csv": "own.csv is no folder",
        "absent": "absent is no folder",
        "here": "is no folder",
        "newer": "is of a newer version",
        "lost": "models/a/w.safetensors needs it",
        "broken": "is damaged",
    }.items():
        with pytest.raises(EmbeddedError, match=words) as refused:
            restore(home, tmp_path / name)
        one_line(refused)
        assert not home.parent.exists(), name
