"""The data directory of an embedded platform: generated secrets, remembered ports, and who is using it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.errors import EmbeddedError, full_disk, is_full
from deploy.embedded.processes import free_port, port_is_free
from jobspecs.file_errors import why_not


@dataclass(frozen=True)
class Home:
    """A data directory of mode 700. Made by `open_home`."""

    path: Path

    def folder(self, name: str) -> Path:
        """A folder of its own (mode 700) below the home, made when missing."""
        folder = self.path / name
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def log(self, name: str) -> Path:
        """Where the process of that name logs."""
        return self.folder("logs") / f"{name}.log"

    def secret(self, name: str) -> str:
        """A secret of 256 bits as 43 URL-safe characters, generated once and kept in `secrets.json` (mode 600)."""
        return self._remembered("secrets.json", name) or self.remember("secrets.json", name, secrets.token_urlsafe(32))

    def port(self, name: str, *, pair_offset: int = 0) -> int:
        """A free port of 127.0.0.1, the same as last time where that is possible; see `free_port` for the offset."""
        ports = self._read("ports.json")
        remembered = ports.get(name)
        if remembered and all(port_is_free(int(remembered) + offset) for offset in {0, pair_offset}):
            return int(remembered)
        port = free_port(pair_offset=pair_offset, taken=[int(value) for value in ports.values()])
        self.remember("ports.json", name, str(port))
        return port

    def setting(self, name: str) -> str | None:
        """A remembered setting of `state.json`."""
        return self._remembered("state.json", name)

    def remember(self, file: str, name: str, value: str) -> str:
        """Writes one entry of a JSON file of the home and returns the value."""
        write_private(self.path / file, {**self._read(file), name: value})
        return value

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the home for this process. Raises `EmbeddedError` when another process does."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
                raise EmbeddedError(
                    f"an embedded platform is running on {self.path} already (pid {owner}); "
                    "use that one, stop it, or choose another folder with --home"
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def in_use(self) -> bool:
        """Whether a process holds the home."""
        try:
            with self.locked():
                return False
        except EmbeddedError:
            return True

    def _remembered(self, file: str, name: str) -> str | None:
        return self._read(file).get(name)

    def _read(self, file: str) -> dict[str, str]:
        path = self.path / file
        if not path.exists():
            return {}
        try:
            content: dict[str, str] = json.loads(path.read_text())
        except ValueError as error:
            raise EmbeddedError(f"{path} is not valid JSON ({error}); restore it from a backup") from error
        return content


def default_home() -> Path:
    """`$EIGENWERK_HOME`, else `~/.local/share/eigenwerk`."""
    chosen = os.environ.get("EIGENWERK_HOME")
    return Path(chosen) if chosen else Path.home() / ".local" / "share" / "eigenwerk"


def home_path(path: Path | None = None) -> Path:
    """Where the data directory is, or would be."""
    return (path or default_home()).expanduser().absolute()


def open_home(path: Path | None = None) -> Home:
    """The data directory at `path`, made with mode 700 when missing; modes of existing folders are left alone."""
    home = home_path(path)
    new = not home.exists()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = home / ".writable"
        probe.write_text("a file's name alone may still find room on a full disk")
        probe.unlink()
    except OSError as error:
        why = f"cannot use {home} as the data directory: {why_not(error)}. It is chosen with --home"
        why = full_disk(home) if is_full(error) else why
        if new and home.is_dir():
            shutil.rmtree(home)
        raise EmbeddedError(why) from error
    return Home(home)


def write_private(path: Path, content: Mapping[str, object]) -> None:
    """Replaces a JSON file in one step, mode 600, written through to the disk."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(dict(content), stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
