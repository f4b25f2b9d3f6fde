"""Can the settings and services of the environment be used? `python -m storage.reaching --database --redis --objects`.

Each is asked once, for a few seconds; one line on stderr for each that can't be used, without passwords.
"""

from __future__ import annotations

import argparse
import os
import sys

import redis
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from storage.objects import ObjectSettings, ObjectStore, ObjectStoreError, ObjectStoreRefused
from storage.settings import NEEDED, Settings

#: Seconds that a service has to answer.
_PATIENCE_S = 5
#: What drivers put in front of the reason.
_PSYCOPG_PREFIXES = ("connection failed: ", "connection is bad: ")


def database_problem(url: str) -> str | None:
    """Why nobody can log in at this database; None: it works."""
    try:
        engine = create_engine(url, connect_args={"connect_timeout": _PATIENCE_S})
    except (SQLAlchemyError, ValueError):
        return "EIGENWERK_DATABASE_URL can't be read as an address; it looks like postgresql://user:password@host/name."
    try:
        engine.connect().close()
    except DBAPIError as error:
        return _of_database(url, error)
    finally:
        engine.dispose()
    return None


def _of_database(url: str, error: DBAPIError) -> str:
    parts = make_url(url)
    place = f"{parts.host or 'local socket'}{f':{parts.port}' if parts.port else ''}, database {parts.database}"
    reason = str(error.orig).splitlines()[0]
    for prefix in _PSYCOPG_PREFIXES:
        reason = reason.removeprefix(prefix)
    return (
        f"the PostgreSQL of EIGENWERK_DATABASE_URL ({place}) can't be used: {_without(parts.password, reason)}. "
        "Start it, or correct the variable."
    )


def redis_problem(url: str) -> str | None:
    """Why this Redis can't be used; None: it works."""
    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=_PATIENCE_S, socket_timeout=_PATIENCE_S)
    except ValueError:
        return "EIGENWERK_REDIS_URL can't be read as an address; it looks like redis://:password@host:6379/0."
    given = client.connection_pool.connection_kwargs
    place = given.get("path") or f"{given.get('host', 'localhost')}:{given.get('port', 6379)}"
    try:
        client.ping()
    except (redis.RedisError, OSError) as error:
        reason = _without(given.get("password"), str(error).splitlines()[0]).rstrip(".")
        return f"the Redis of EIGENWERK_REDIS_URL ({place}) can't be used: {reason}. Start it, or correct the variable."
    finally:
        client.close()
    return None


def objects_problem(settings: Settings) -> str | None:
    """Why this object store can't be used; None: it works, or lacks only the bucket, which the API makes."""
    try:
        store = ObjectStore(ObjectSettings.of(settings))
    except ValueError:
        return "EIGENWERK_S3_ENDPOINT can't be read as an address; it looks like https://host:port, without a path."
    try:
        store.within(_PATIENCE_S).healthy()
    except ObjectStoreRefused as error:
        return None if error.code == "NoSuchBucket" else f"{error} It is the one of EIGENWERK_S3_ENDPOINT."
    except ObjectStoreError as error:
        return f"{error} It is the one of EIGENWERK_S3_ENDPOINT."
    finally:
        store.close()
    return None


def _without(password: object, text: str) -> str:
    return text.replace(str(password), "***") if password else text


def main() -> int:
    """1 when one of the services that are named can't be used."""
    parser = argparse.ArgumentParser(description="Ask whether services can be used.")
    for service in ("database", "redis", "objects"):
        parser.add_argument(f"--{service}", action="store_true")
    asked = parser.parse_args()
    try:
        # What isn't asked for need not be named: it may not have been started yet.
        settings = Settings.from_environment({**dict.fromkeys(NEEDED, "-"), **os.environ})
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    problems = [
        database_problem(settings.database_url) if asked.database else None,
        redis_problem(settings.redis_url) if asked.redis else None,
        objects_problem(settings) if asked.objects else None,
    ]
    found = [problem for problem in problems if problem is not None]
    sys.stderr.write("".join(f"{problem}\n" for problem in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
