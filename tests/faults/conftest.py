"""One scheduler and one worker with the real runner, shared by all tests here: its zygote takes ten seconds to load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded.stack import EmbeddedServices
from tests.infrastructure import _create, _drop
from tests.models import build_tiny_encoder, labelled_texts
from tests.workers.harness import Harness, make_harness

#: Some 400 steps of a tiny model: long enough to be interrupted in the middle.
TRAINING: dict[str, object] = {"epochs": 20, "batch_size": 8, "learning_rate": 1e-3, "checkpoint_every_steps": 100}


#: So that a busy machine alone makes no lease run out; tests that want one to end say so (`Harness.end_lease`).
PATIENT = {"EIGENWERK_LEASE_S": "20", "EIGENWERK_SELF_FENCE_S": "15"}


@pytest.fixture(scope="session")
def platform(
    services: EmbeddedServices,
    _template_url: str,
    object_settings: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Harness]:
    name = "faults"
    folder = tmp_path_factory.mktemp("faults")
    url = _create(services.database_url, name, template="eigenwerk_template")
    made = make_harness(url, services.redis_url, object_settings, folder)
    made.environment.update(PATIENT)
    made.prepare_inputs(build_tiny_encoder(folder / "encoder"), dataset())
    made.start_scheduler()
    made.start_worker()
    made.wait_for_host(seconds=120)
    yield made
    made.close()
    _drop(services.database_url, name)


@pytest.fixture(scope="session")
def unbroken(platform: Harness) -> str:
    """sha256 of the weights of a run that nothing disturbed."""
    job_id = platform.submit("unbroken", training=TRAINING)
    platform.wait(job_id)
    return platform.weights_sha256(job_id)


def dataset(rows: int = 240, seed: int = 3) -> bytes:
    lines = [f"{text},{label}" for text, label in labelled_texts(rows, seed)]
    return "\n".join(["text,label", *lines, ""]).encode()


def folder_of(harness: Harness, host: str = "one") -> Path:
    return harness.folder / f"scratch-{host}"
