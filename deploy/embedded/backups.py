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
from deploy.embedded.first_checks import check_folder, check_start
from deploy.embedded.given import Given
from deploy.embedded.home import Home, open_home, write_private
from deploy.embedded.home import home_path as home_folder
from deploy.embedded.platform import RUNNING_FILE, SEALING_KEY, inherited_settings, project_root
from deploy.embedded.postgres_placement import wheel_folder
from deploy.embedded.stack import EmbeddedServices

logger = logging.getLogger(__name__)

_SECRETS = "secrets.json"
#: What a new home can't make anew without others noticing.
_SAVED_SECRETS = frozenset({"admin_token", SEALING_KEY})
#: PostgreSQL, Redis, S3: who is given all of them keeps nothing in a home.
_SERVICES = 3


def backup(home_path: Path | None, folder: Path, *, with_secrets: bool, keep: int | None = None) -> dict[str, object]:
    """Saves the platform, running or not, into `folder`; returns what storage says. Raises `EmbeddedError`.

    With `with_secrets` the administrator's token and the key of users' hub tokens are in the backup, readable; without
    it, no token is readable, and users set theirs of the hub anew after a restore into another home. With `keep` all
    older backups but so many, this one among them, are removed afterwards.
    """
    more = [] if keep is None else ["--keep", str(keep)]
    folder = folder.expanduser().absolute()
    check_folder(folder, f"cannot save into {folder}", "name a folder for backups that you may write")
    _check_saved(home_path)
    home = open_home(home_path)
    if not home.in_use():
        check_start(home.path, Given.from_environment(os.environ), inherited_settings(os.environ), project_root())
    with _services(home) as settings:
        if not with_secrets:
            return _run("save", folder, settings, *more)
        secrets = home.path / f".{_SECRETS}.backup"
        write_private(secrets, {name: home.secret(name) for name in _SAVED_SECRETS})
        try:
            return _run("save", folder, settings, "--secrets", str(secrets), *more)
        finally:
            secrets.unlink()


def restore(home_path: Path | None, folder: Path) -> dict[str, object]:
    """Restores the newest backup of `folder` into an empty home, or empty services that are given, for the next `up`.

    Raises `EmbeddedError`; a platform that holds anything, or runs, is not touched, and a home that was not there is
    not there afterwards either.
    """
    path = home_folder(home_path)
    if path.exists() and Home(path).in_use():
        raise EmbeddedError(f"a platform is running on {path}; restore into a new --home")
    settings, given = inherited_settings(os.environ), Given.from_environment(os.environ)
    check_start(path, given, settings, project_root())
    _run("check", folder, settings)
    new = not path.exists()
    home = open_home(path)
    try:
        with _services(home) as running:
            result = _run("restore", folder, running)
    except BaseException:
        if new:
            EmbeddedServices(path).remove_data()
        raise
    secrets = Path(str(result["backup"])) / _SECRETS
    if secrets.exists():
        saved = json.loads(secrets.read_text())
        for name in saved.keys() & _SAVED_SECRETS:
            home.remember(_SECRETS, name, str(saved[name]))
    return result


def _check_saved(home_path: Path | None) -> None:
    """Raises `EmbeddedError` when there is no platform to save: a backup must not make one."""
    path, given = home_folder(home_path), Given.from_environment(os.environ)
    if len(given.services()) < _SERVICES and not (path / _SECRETS).exists():
        raise EmbeddedError(f"there is no platform in {path}; name its data directory with --home")


@contextmanager
def _services(home: Home) -> Iterator[Mapping[str, str]]:
    """The settings of the platform that runs on the home; without one, its services are started for this."""
    if not home.in_use():
        with EmbeddedServices(home.path, given=Given.from_environment(os.environ)) as services:
            yield {**inherited_settings(os.environ), **services.environment()}
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
        # A check is short; what takes long says meanwhile how it goes.
        stderr=subprocess.PIPE if action == "check" else None,
        text=True,
        check=False,
    )
    if done.returncode != 0 and action == "check":
        raise EmbeddedError(done.stderr.strip().removeprefix("error: "))
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
