"""`backup` and `restore` of the platform in a home: finds its services, and lets storage do it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.embedded.errors import EmbeddedError
from deploy.embedded.given import Given, check_reachable
from deploy.embedded.home import Home, open_home, write_private
from deploy.embedded.platform import RUNNING_FILE, inherited_settings, project_root
from deploy.embedded.postgres_placement import wheel_folder
from deploy.embedded.stack import EmbeddedServices

logger = logging.getLogger(__name__)

_SECRETS = "secrets.json"


def backup(home_path: Path | None, folder: Path, *, with_secrets: bool, keep: int | None = None) -> dict[str, object]:
    """Saves the platform, running or not, into `folder`; returns what storage says. Raises `EmbeddedError`.

    With `with_secrets` the administrator's token is in the backup, readable; without it, no token is. With `keep` all
    older backups but so many, this one among them, are removed afterwards.
    """
    more = [] if keep is None else ["--keep", str(keep)]
    home = open_home(home_path)
    with _services(home) as settings:
        if not with_secrets:
            return _run("save", folder, settings, *more)
        secrets = home.path / f".{_SECRETS}.backup"
        write_private(secrets, {"admin_token": home.secret("admin_token")})
        try:
            return _run("save", folder, settings, "--secrets", str(secrets), *more)
        finally:
            secrets.unlink()


def restore(home_path: Path | None, folder: Path) -> dict[str, object]:
    """Restores the newest backup of `folder` into an empty home, or empty services that are given, for the next `up`.

    Raises `EmbeddedError`; a platform that holds anything, or runs, is not touched.
    """
    home = open_home(home_path)
    if home.in_use():
        raise EmbeddedError(f"a platform is running on {home.path}; restore into a new --home")
    with _services(home) as settings:
        result = _run("restore", folder, settings)
    secrets = Path(str(result["backup"])) / _SECRETS
    if secrets.exists():
        home.remember("secrets.json", "admin_token", str(json.loads(secrets.read_text())["admin_token"]))
    return result


@contextmanager
def _services(home: Home) -> Iterator[Mapping[str, str]]:
    """The settings of the platform that runs on the home; without one, its services are started for this."""
    if not home.in_use():
        given = Given.from_environment(os.environ)
        services = EmbeddedServices(home.path, given=given)
        with services:
            settings = {**inherited_settings(os.environ), **services.environment()}
            check_reachable(given, settings, project_root())
            yield settings
        return
    running = home.path / RUNNING_FILE
    if not running.exists():
        raise EmbeddedError(f"the platform on {home.path} is just starting or stopping; try again in a moment")
    settings = json.loads(running.read_text())
    if settings.pop("EIGENWERK_HOME") != str(home.path.resolve()):
        raise EmbeddedError(f"{running} was copied from another home; remove it")
    yield {**inherited_settings(os.environ), **settings}


def _run(action: str, folder: Path, settings: Mapping[str, str], *more: str) -> dict[str, object]:
    command = [sys.executable, "-m", "storage.backups", action, str(folder.expanduser().absolute()), *more]
    done = subprocess.run(
        [*command, *_programs()],
        env=dict(settings),
        cwd=project_root(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise EmbeddedError(f"the {'backup' if action == 'save' else 'restore'} is not complete; the reason is above")
    result: dict[str, object] = json.loads(done.stdout)
    return result


def _programs() -> Sequence[str]:
    """Those of the wheel, where it is installed."""
    try:
        return ("--programs", str(wheel_folder() / "pginstall" / "bin"))
    except EmbeddedError:
        return ()
