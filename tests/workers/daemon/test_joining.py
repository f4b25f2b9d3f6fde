from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from storage.database import Database
from workers.daemon.joining import MayNotJoin, admit, read_command_line, read_settings


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "settings"
    path.write_text(text)
    path.chmod(mode)
    return path


def add_token(database: Database, token: str, *scopes: str, expires_in: timedelta = timedelta(hours=1)) -> None:
    with database.unit_of_work() as work:
        user = work.users.ensure("ada")
        work.users.add_token(user.id, token, scopes=scopes, expires_at=datetime.now(UTC) + expires_in)


def test_settings_are_read_as_lines_of_names_and_values(tmp_path: Path) -> None:
    path = written(tmp_path, "# where\n\nEIGENWERK_S3_SECRET_KEY = a=b \nEIGENWERK_HOST_NAME='gpu 1'\n")
    assert read_settings(path) == {"EIGENWERK_S3_SECRET_KEY": "a=b", "EIGENWERK_HOST_NAME": "gpu 1"}


def test_the_environment_counts_more_than_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "EIGENWERK_SLOTS=1\nEIGENWERK_GPUS=2\n")
    environment = {"EIGENWERK_SLOTS": "4"}
    with patch("sys.argv", ["worker", "--settings", str(path), "--join"]):
        assert read_command_line("workers.agent", environment)
    assert environment == {"EIGENWERK_SLOTS": "4", "EIGENWERK_GPUS": "2"}


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [("A=b\n", 0o640, "chmod 600"), ("A=b\nnothing\n", 0o600, "line 2"), ("1 A=b\n", 0o600, "line 1")],
)
def test_settings_that_others_may_read_or_that_are_none_are_refused(
    tmp_path: Path, text: str, mode: int, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        read_settings(written(tmp_path, text, mode))


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere can't be read"):
        read_settings(tmp_path / "nowhere")


def test_a_host_joins_with_a_token_once_and_stays(database: Database) -> None:
    add_token(database, "ew_invited", "join")
    with pytest.raises(MayNotJoin, match=r"EIGENWERK_JOIN_TOKEN is not set.*eigenwerk hosts invite"):
        admit(database, "gpu-1", {})
    admit(database, "gpu-1", {"EIGENWERK_JOIN_TOKEN": "ew_invited"})
    with database.unit_of_work() as work:
        (host,) = work.hosts.known()
    assert host.joined_at is not None
    assert not host.accepting
    # It was announced meanwhile, and its token has ended.
    with database.unit_of_work() as work:
        work.hosts.announce("gpu-1", slots=1, memory_bytes=1, gpus=0, accepting=True)
    admit(database, "gpu-1", {"EIGENWERK_JOIN_TOKEN": "ew_ended"})
    admit(database, "gpu-1", {})
    with pytest.raises(MayNotJoin, match="gpu-2"):
        admit(database, "gpu-2", {})


def test_a_token_that_has_expired_or_is_for_something_else_lets_nobody_join(database: Database) -> None:
    add_token(database, "ew_late", "join", expires_in=timedelta(seconds=-1))
    add_token(database, "ew_writer", "write")
    for token in ("ew_late", "ew_writer", "ew_never_made"):
        with pytest.raises(MayNotJoin, match="no join token, or has expired"):
            admit(database, "gpu-1", {"EIGENWERK_JOIN_TOKEN": token})


def test_an_administrators_token_lets_a_host_join_as_admin_includes_every_scope(database: Database) -> None:
    add_token(database, "ew_all", "admin")
    admit(database, "gpu-1", {"EIGENWERK_JOIN_TOKEN": "ew_all"})
    admit(database, "gpu-1", {})
