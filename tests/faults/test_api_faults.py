from __future__ import annotations

import signal
import socket
from uuid import UUID, uuid4

import httpx
import pytest

from jobspecs.lifecycle import JobState
from jobspecs.manifest import Manifest
from jobspecs.rights import Reach
from storage.tabular import detect_format, profile_table
from tests.faults.conftest import dataset
from tests.workers.harness import Harness

TOKEN = "ew_" + "t" * 43
SPEC = {
    "kind": "train-classifier",
    "name": "acknowledged",
    "model": "base@1",
    "dataset": "rows@1",
    "text": "text",
    "label": "label",
    "training": {"epochs": 1},
}


@pytest.fixture(scope="module")
def registered(platform: Harness) -> Harness:
    """The harness's stored inputs, also known to the API."""
    assert platform.dataset is not None
    assert platform.model is not None
    path = platform.folder / "rows.csv"
    path.write_bytes(dataset())
    with platform.database.unit_of_work() as work:
        owner = work.users.ensure("tester")
        work.users.add_token(owner.id, TOKEN, scopes=("write",))
        work.datasets.add_version(
            owner.id,
            "rows",
            version_id=uuid4(),
            file_name="rows.csv",
            key=platform.dataset.key,
            bytes_total=platform.dataset.bytes,
            sha256=platform.dataset.sha256,
            profile=profile_table(path, detect_format("rows.csv"), "rows.csv"),
        )
        manifest = Manifest(artifact="model", files=platform.model.files)
        work.models.add_version(owner.id, "base", manifest=manifest, prefix=platform.model.prefix)
    return platform


def start_api(harness: Harness, module: str) -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    harness.start(module, EIGENWERK_API_HOST="127.0.0.1", EIGENWERK_API_PORT=str(port))
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    harness.until(ready, 60, f"{module} to be ready")
    return url


def submit(url: str, key: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": key}
    return httpx.post(f"{url}/v1/jobs", json=SPEC, headers=headers, trust_env=False, timeout=20)


def test_a_job_runs_though_the_api_died_after_its_commit_and_asking_again_finds_it(registered: Harness) -> None:
    key = str(uuid4())
    dying = start_api(registered, "tests.faults.api_that_dies")
    with pytest.raises(httpx.TransportError):
        submit(dying, key)
    assert registered.processes[-1].wait(10) == -signal.SIGKILL

    again = submit(start_api(registered, "api"), key)
    assert again.status_code == 200
    job = registered.wait(UUID(again.json()["id"]), seconds=90)
    assert job.state == JobState.succeeded
    with registered.database.unit_of_work() as work:
        jobs = work.jobs.list(Reach.of(job.owner_id), limit=1000)
    assert [row.id for row in jobs if row.idempotency_key == key] == [job.id]
