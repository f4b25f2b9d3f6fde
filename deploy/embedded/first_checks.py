"""What can be found wrong before anything is made: `up`, `backup` and `restore` ask here first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from deploy.embedded import objects, postgres_placement, redis
from deploy.embedded.errors import EmbeddedError
from deploy.embedded.given import Given, check_reachable
from deploy.embedded.home import Home, home_path


def check_start(home: Path | None, given: Given, settings: Mapping[str, str], project: Path) -> None:
    """Raises `EmbeddedError` when the services can't be started on the home, or those that are given can't be used.

    Neither the home nor anything in it is made. `settings`: the EIGENWERK_* variables that are set.
    """
    check_home(home)
    if given.database_url is None:
        postgres_placement.check_available()
    if given.redis_url is None:
        redis.binary()
    if given.object_access is None:
        objects.binary()
    check_reachable(given, settings, project)


def check_home(home: Path | None) -> None:
    """Raises `EmbeddedError` when the data directory can't be one, or a platform runs on it."""
    path = home_path(home)
    check_folder(path, f"cannot use {path} as the data directory", "choose one that you may write with --home")
    if (path / "lock").exists():
        with Home(path).locked():
            pass


def check_folder(folder: Path, what: str, remedy: str) -> None:
    """Raises `EmbeddedError`, which begins with `what`, when the folder is none, or can't be made or written."""
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise EmbeddedError(f"{what}: {'it' if there == folder else there} is no folder; {remedy}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise EmbeddedError(f"{what}: you may not write into {there}; {remedy}")
