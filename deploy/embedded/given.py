"""Services that the environment names: each is used instead of the one that would be started here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deploy.embedded.errors import EmbeddedError
from deploy.embedded.objects import BUCKET, ObjectAccess

_S3_NEEDED = ("EIGENWERK_S3_ENDPOINT", "EIGENWERK_S3_ACCESS_KEY", "EIGENWERK_S3_SECRET_KEY")
_S3_MORE = ("EIGENWERK_S3_BUCKET", "EIGENWERK_S3_REGION", "EIGENWERK_S3_PUBLIC_ENDPOINT")
#: What says where a service is; a platform that is to have its own must not inherit them.
SERVICE_VARIABLES = ("EIGENWERK_DATABASE_URL", "EIGENWERK_REDIS_URL", *_S3_NEEDED, *_S3_MORE)
_POSTGRES_SCHEMES = ("postgres://", "postgresql://", "postgresql+psycopg://")
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


@dataclass(frozen=True)
class Given:
    """What is given; None: start our own."""

    database_url: str | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)
    object_access: ObjectAccess | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Given:
        """Raises `EmbeddedError` for an address that can't be one, and for an object store named only in part."""
        return cls(
            database_url=_database_url(environment.get("EIGENWERK_DATABASE_URL")),
            redis_url=_redis_url(environment.get("EIGENWERK_REDIS_URL")),
            object_access=_object_access(environment),
        )

    def description(self) -> str:
        """Which services are started here and which are given, and where those are; without passwords."""
        objects = self.object_access
        parts = {
            "PostgreSQL": _place(self.database_url),
            "Redis": _place(self.redis_url),
            "S3": f"{_place(objects.endpoint)}, bucket {objects.bucket}" if objects else None,
        }
        return "; ".join(f"{name}: " + (f"given, {place}" if place else "embedded") for name, place in parts.items())

    def services(self) -> list[str]:
        """Names of those that are given, as `storage.reaching` calls them."""
        parts = {"database": self.database_url, "redis": self.redis_url, "objects": self.object_access}
        return [name for name, part in parts.items() if part is not None]


def check_reachable(given: Given, settings: Mapping[str, str], project: Path) -> None:
    """Asks each given service once, and reads the settings, which need hold no other services.

    Raises `EmbeddedError` that says which can't be used and why.
    """
    services = given.services()
    if not services and not any(name.startswith("EIGENWERK_") for name in settings):
        return
    done = subprocess.run(
        [sys.executable, "-m", "storage.reaching", *(f"--{service}" for service in services)],
        env=dict(settings),
        cwd=project,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise EmbeddedError(without_secrets(done.stderr.strip(), settings))


def without_secrets(text: str, settings: Mapping[str, str]) -> str:
    """The text without the passwords that the services' addresses hold, and without the object store's key."""
    urls = [urlsplit(settings.get(name, "")) for name in ("EIGENWERK_DATABASE_URL", "EIGENWERK_REDIS_URL")]
    # Drivers read a password from the query too.
    queries = [pair.partition("=") for url in urls for pair in url.query.split("&")]
    passwords = [value for name, _, value in queries if name == "password"]
    passwords += [url.password for url in urls if url.password]
    secrets = {*passwords, *map(unquote, passwords), settings.get("EIGENWERK_S3_SECRET_KEY", "")}
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _database_url(text: str | None) -> str | None:
    if not text:
        return None
    for scheme in _POSTGRES_SCHEMES:
        if text.startswith(scheme):
            _check_readable("EIGENWERK_DATABASE_URL", text)
            return "postgresql+psycopg://" + text.removeprefix(scheme)
    raise EmbeddedError(
        "EIGENWERK_DATABASE_URL is no address of a PostgreSQL database: it must begin with postgresql://; "
        "unset it to use the embedded one"
    )


def _redis_url(text: str | None) -> str | None:
    if text and not text.startswith(_REDIS_SCHEMES):
        raise EmbeddedError(
            "EIGENWERK_REDIS_URL is no address of a Redis: it must begin with redis://; "
            "unset it to use the embedded one"
        )
    if text:
        _check_readable("EIGENWERK_REDIS_URL", text)
    return text or None


def _object_access(environment: Mapping[str, str]) -> ObjectAccess | None:
    present = [name for name in (*_S3_NEEDED, *_S3_MORE) if environment.get(name)]
    missing = [name for name in _S3_NEEDED if not environment.get(name)]
    if not present:
        return None
    if missing:
        raise EmbeddedError(
            f"{', '.join(present)} set, but not {', '.join(missing)}: set all of them to use your own object store, "
            "or none to use the embedded one"
        )
    endpoint, access_key, secret_key = (environment[name] for name in _S3_NEEDED)
    return ObjectAccess(endpoint, access_key, secret_key, environment.get("EIGENWERK_S3_BUCKET") or BUCKET)


def _check_readable(name: str, url: str) -> None:
    """Refuses an address whose password holds characters that end it, before a part of it is taken for the host."""
    parts = urlsplit(url)
    try:
        readable = parts.port is None or parts.port > 0
    except ValueError:
        readable = False
    if not readable or parts.netloc.count("@") > 1 or "@" in parts.path + parts.query + parts.fragment:
        raise EmbeddedError(
            f"{name} can't be read as an address: write each @ : / ? # % of its user and password "
            "as %40 %3A %2F %3F %23 %25, and the port as a number"
        )


def _place(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    return (
        f"{parts.hostname or 'local'}{f':{parts.port}' if parts.port else ''}{parts.path if parts.path != '/' else ''}"
    )
