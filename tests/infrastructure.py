"""The real servers for the tests: one PostgreSQL, Redis and S3 per session, one database per test."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis
from psycopg import sql

from deploy.embedded.stack import EmbeddedServices

_TEMPLATE = "eigenwerk_template"


def forget_settings() -> None:
    """The developer's own platform must not reach into the tests."""
    for name in [name for name in os.environ if name.startswith("EIGENWERK_") and name != "EIGENWERK_DATA_DIR"]:
        del os.environ[name]


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServices]:
    """PostgreSQL, Redis and S3 for the whole session; without them tests fail. Leave them running."""
    embedded = EmbeddedServices(tmp_path_factory.mktemp("services") / "home", durable=False)
    try:
        with embedded:
            yield embedded
    finally:
        embedded.remove_data()


@pytest.fixture(scope="session")
def _template_url(services: EmbeddedServices) -> str:
    """A database with the newest schema; nobody may be connected to it while it is copied."""
    # Imported here: the tests of the contract and of the servers need no storage.
    from storage.migrate import upgrade

    url = _create(services.database_url, _TEMPLATE)
    upgrade(url)
    return url


@pytest.fixture
def database_url(services: EmbeddedServices, _template_url: str) -> Iterator[str]:
    """A fresh database with the newest schema and no rows."""
    name = f"test_{secrets.token_hex(6)}"
    yield _create(services.database_url, name, template=_TEMPLATE)
    _drop(services.database_url, name)


@pytest.fixture
def empty_database_url(services: EmbeddedServices) -> Iterator[str]:
    """A fresh database without any table."""
    name = f"empty_{secrets.token_hex(6)}"
    yield _create(services.database_url, name)
    _drop(services.database_url, name)


@pytest.fixture
def redis_url(services: EmbeddedServices) -> str:
    """The session's Redis, emptied before the test."""
    with redis.Redis.from_url(services.redis_url) as client:
        client.flushall()
    return services.redis_url


@pytest.fixture(scope="session")
def object_settings(services: EmbeddedServices) -> dict[str, str]:
    """The session's bucket, which exists: `endpoint_url`, `access_key`, `secret_key`, `bucket`."""
    access = services.object_access
    return {
        "endpoint_url": access.endpoint,
        "access_key": access.access_key,
        "secret_key": access.secret_key,
        "bucket": access.bucket,
    }


def _create(server_url: str, name: str, template: str = "template0") -> str:
    with _connect(server_url) as connection:
        # FILE_COPY is quicker than the write-ahead log for a database of this size without fsync.
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))


def _drop(server_url: str, name: str) -> None:
    with _connect(server_url) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
