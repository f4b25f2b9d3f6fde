"""Builds a runner environment from its lock file, and tells of those that there are.

A lock file `NAME.txt` names exact versions, as pip reads them. What it makes is a folder `NAME-DIGEST` with a virtual
environment and `environment.json` {"name", "lock_sha256", "python"}, written last: what has it is whole. Engines and
runners start its `bin/python`, and say the digest of the lock in what they make. A changed lock file makes another
folder, so that what runs goes on undisturbed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MARKER = "environment.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
#: A name and an exact version, with what pip may read behind it; other lines are comments or options of these kinds.
_PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[a-z0-9,-]+\])?==\S+(?:\s.*)?")
LOCKS = Path(__file__).resolve().parent


class CannotBuild(Exception):
    """It can't be built; the text says why and what to do."""


@dataclass(frozen=True)
class Lock:
    """One lock file."""

    name: str
    path: Path

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def folder(self, root: Path) -> Path:
        return root / f"{self.name}-{self.sha256[:12]}"

    def check(self) -> None:
        """Raises CannotBuild for a line that names no exact version."""
        for number, line in enumerate(self.path.read_text(encoding="utf-8").splitlines(), 1):
            words = line.split("#", 1)[0].strip()
            if words and not _PINNED.fullmatch(words):
                raise CannotBuild(
                    f"{self.path.name}, line {number}: {words!r} names no exact version. Write NAME==VERSION."
                )


@dataclass(frozen=True)
class Environment:
    """A lock file, and whether it is built."""

    name: str
    lock_sha256: str
    #: `built`, `outdated` (there is one of another lock file) or `missing`.
    state: str
    path: Path


def lock_of(name: str, locks: Path = LOCKS) -> Lock:
    """Raises CannotBuild for an unknown name."""
    path = locks / f"{name}.txt"
    if not _NAME.fullmatch(name) or not path.is_file():
        known = ", ".join(sorted(found.stem for found in locks.glob("*.txt"))) or "none"
        raise CannotBuild(f"There is no environment {name[:60]!r}; there are: {known}.")
    return Lock(name, path)


def environments(root: Path, locks: Path = LOCKS) -> list[Environment]:
    """Those that have a lock file, by name."""
    found = [Lock(path.stem, path) for path in sorted(locks.glob("*.txt"))]
    return [Environment(lock.name, lock.sha256, _state(root, lock), lock.folder(root)) for lock in found]


def build(name: str, root: Path, locks: Path = LOCKS) -> Environment:
    """Makes it, unless it is there as the lock file has it. pip's progress goes to stderr; nothing half-made stays.

    Raises CannotBuild when pip can't install what the lock file names.
    """
    lock = lock_of(name, locks)
    lock.check()
    folder = lock.folder(root)
    if not (folder / MARKER).is_file():
        root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _fill(folder, lock)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return Environment(name, lock.sha256, "built", folder)


def _fill(folder: Path, lock: Lock) -> None:
    _run("make the virtual environment", [sys.executable, "-m", "venv", "--without-pip", str(folder)])
    # The platform's own pip installs into it: one that ensurepip puts there first takes half a minute.
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    # --no-deps: the lock file names everything, so what it does not name is not installed.
    wanted = [*pip, "install", "--no-deps", "--only-binary", ":all:", "-r", str(lock.path)]
    _run(f"install what {lock.path.name} names", wanted)
    marker = {"name": lock.name, "lock_sha256": lock.sha256, "python": sys.version.split()[0]}
    (folder / MARKER).write_text(json.dumps(marker), encoding="utf-8")


def _run(what: str, argv: list[str]) -> None:
    try:
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotBuild(f"Could not {what}: {error}. The lines above say why; then build it again.") from error


def _state(root: Path, lock: Lock) -> str:
    if (lock.folder(root) / MARKER).is_file():
        return "built"
    return "outdated" if any(root.glob(f"{lock.name}-{'[0-9a-f]' * 12}/{MARKER}")) else "missing"
