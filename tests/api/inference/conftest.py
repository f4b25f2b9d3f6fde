"""One deployed model per task of the small models: real engines with tiny models."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from jobspecs.manifest import Manifest
from tests.api.conftest import Api
from tests.api.inference.asking import DEPLOYED
from tests.workers.inference.serving_here import KEY, tiny_engine


@dataclass(frozen=True)
class Running:
    endpoint: str
    manifest: Manifest


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Running]]:
    """Deployment -> its engine."""
    root = tmp_path_factory.mktemp("engines")
    with ExitStack() as stack:
        yield {
            name: Running(*stack.enter_context(tiny_engine(task, root / name, f"ada/{name}@7")))
            for name, task in DEPLOYED.items()
        }


@pytest.fixture
def served(api: Api, engines: Mapping[str, Running]) -> Api:
    """An API whose user has deployed one model per task."""
    return deploy(api, engines)


def deploy(api: Api, engines: Mapping[str, Running]) -> Api:
    for name, running in engines.items():
        with api.database.unit_of_work() as work:
            prefix = f"artifacts/{secrets.token_hex(8)}"
            work.models.add_version(api.user_id(), name, manifest=running.manifest, prefix=prefix)
        answer = api.client.put(f"/v1/deployments/{name}")
        assert answer.status_code == 202, answer.text
        with api.database.unit_of_work() as work:
            row = work.deployments.find(api.reach(), name)
            assert row is not None
            row.host, row.state, row.endpoint, row.endpoint_key = "host-1", "ready", running.endpoint, KEY
    return api
