"""Services that are given and can't be used: one line, and no password anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.embedded.errors import EmbeddedError
from deploy.embedded.given import Given, check_reachable, without_secrets
from deploy.embedded.platform import project_root
from deploy.embedded.processes import free_port
from deploy.embedded.stack import EmbeddedServices

#: As it stands in an address, and as it is.
ENCODED, PASSWORD = "hunter%402%2Fx", "hunter@2/x"


def settings_with(services: EmbeddedServices, **given: str) -> dict[str, str]:
    environment = {"PATH": os.environ["PATH"], **services.environment()}
    return environment | {f"EIGENWERK_{name}": value for name, value in given.items()}


def test_up_says_in_one_line_that_a_given_database_does_not_answer(services: EmbeddedServices, tmp_path: Path) -> None:
    port = free_port()
    settings = settings_with(services, DATABASE_URL=f"postgresql+psycopg://ada:{ENCODED}@127.0.0.1:{port}/eigenwerk")
    command = [sys.executable, "-m", "deploy.embedded", "up", "--home", str(tmp_path / "home")]
    done = subprocess.run(command, env=settings, cwd=project_root(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (error,) = [line for line in done.stderr.splitlines() if not line.startswith("PostgreSQL: given")]
    assert error == (
        f"error: the PostgreSQL of EIGENWERK_DATABASE_URL (127.0.0.1:{port}, database eigenwerk) can't be used: "
        f'connection to server at "127.0.0.1", port {port} failed: Connection refused. '
        "Start it, or correct the variable."
    )
    written = "".join(path.read_text() for path in (tmp_path / "home").rglob("*.log"))
    for secret in (ENCODED, PASSWORD):
        assert secret not in done.stdout + done.stderr + written


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"DATABASE_URL": "postgresql+psycopg://{user}:hunter%402%2Fx@{database}/eigenwerk"},
            "authentication failed for user",
        ),
        (
            {"DATABASE_URL": "postgresql+psycopg://u:hunter%402%2Fx@{database}/x?bogus=1"},
            'invalid connection option "bogus"',
        ),
        ({"REDIS_URL": "redis://:hunter%402%2Fx@127.0.0.1:{closed}/0"}, r"EIGENWERK_REDIS_URL .* Connection refused\."),
        ({"REDIS_URL": "redis://:hunter%402%2Fx@{redis}/0"}, r"EIGENWERK_REDIS_URL .*(WRONGPASS|invalid username)"),
        ({"S3_ENDPOINT": "http://127.0.0.1:{closed}"}, r"doesn't answer .* the one of EIGENWERK_S3_ENDPOINT"),
        ({"S3_SECRET_KEY": "hunter@2/x"}, r"refuses the access key .* EIGENWERK_S3_ENDPOINT"),
        ({"S3_ENDPOINT": "http://127.0.0.1:{closed}/bucket"}, "without a path"),
    ],
)
def test_each_given_service_that_cannot_be_used_is_one_line_without_its_password(
    given: dict[str, str], words: str, services: EmbeddedServices
) -> None:
    user, database = services.database_url.partition("://")[2].rsplit("@", 1)
    places = {
        "user": user.split(":")[0],
        "database": database.split("/")[0],
        "redis": services.redis_url.rsplit("@", 1)[1].split("/")[0],
        "closed": str(free_port()),
    }
    filled = {name: value.format(**places) for name, value in given.items()}
    settings = settings_with(services, **filled)
    with pytest.raises(EmbeddedError, match=words) as refused:
        check_reachable(Given.from_environment(settings), settings, project_root())
    assert str(refused.value).count("\n") == 0
    assert ENCODED not in str(refused.value)
    assert PASSWORD not in str(refused.value)


def test_given_services_that_can_be_used_are_not_spoken_of(services: EmbeddedServices) -> None:
    settings = settings_with(services, S3_BUCKET="not-made-yet")
    check_reachable(Given.from_environment(settings), settings, project_root())


def test_a_migration_that_fails_shows_no_password() -> None:
    settings = {
        "EIGENWERK_DATABASE_URL": f"postgresql+psycopg://ada:{ENCODED}@h/d",
        "EIGENWERK_S3_SECRET_KEY": "s3cret",
    }
    assert without_secrets(f"{PASSWORD} {ENCODED} s3cret ada", settings) == "*** *** *** ada"
    in_query = {"EIGENWERK_DATABASE_URL": f"postgresql+psycopg://h/name?user=ada&password={ENCODED}"}
    assert without_secrets(f"{PASSWORD} {ENCODED} ada", in_query) == "*** *** ada"
