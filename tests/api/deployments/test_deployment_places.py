"""Where deployments have a place: what hosts have, what they take, and what is said when there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete

from jobspecs.manifest import Manifest, ManifestFile, ModelOrigin
from storage.tables import HostRow
from tests.api.conftest import Api, sha256
from tests.api.deployments.test_deployments import KEY, report, trained

__all__ = ["trained"]


@pytest.fixture
def hosted(trained: Api) -> Iterator[Api]:
    """The same, with the hosts that a test announces and no others: all tests see the same hosts."""

    def forget() -> None:
        with trained.database.unit_of_work() as work:
            work.session.execute(delete(HostRow))
            work.deployments.release("serving-1")

    forget()
    yield trained
    forget()


def host(api: Api, *, memory_gib: int = 8, gpus: int = 0, name: str = "serving-1") -> None:
    with api.database.unit_of_work() as work:
        work.hosts.announce(name, slots=4, memory_bytes=memory_gib * 2**30, gpus=gpus, accepting=True)


def serve(api: Api, **wanted: Any) -> None:
    """Wants the deployment and plays the worker of `serving-1`, which claims it and serves it."""
    assert api.client.put("/v1/deployments/quality", json=wanted).status_code == 202
    with api.database.unit_of_work() as work:
        row = work.deployments.find(api.reach(), "quality")
        assert row is not None
        row.host, row.lease_until = "serving-1", datetime.now(UTC) + timedelta(days=1)
    report(api, state="ready", endpoint="http://127.0.0.1:1", endpoint_key=KEY)


def want(api: Api, **wanted: Any) -> tuple[int, str]:
    """The status of a change, and what is said about it."""
    answer = api.client.put("/v1/deployments/quality", json=wanted)
    return answer.status_code, answer.text


def state_of(api: Api) -> tuple[int, str | None, str | None]:
    with api.database.unit_of_work() as work:
        row = work.deployments.find(api.reach(), "quality")
        assert row is not None
        return row.memory_bytes >> 30, row.host, row.endpoint


def test_a_deployment_that_no_host_could_ever_serve_is_refused(hosted: Api) -> None:
    host(hosted)
    for wanted, field in (({"memory_gib": 4096}, "memory_gib"), ({"memory_gib": 1, "gpus": 1}, "gpus")):
        status, said = want(hosted, **wanted)
        assert status == 422
        assert json.loads(said)["error"]["param"] == field
        assert "8.00 GiB" in said
    assert hosted.client.get("/v1/deployments/quality").status_code == 404


def test_a_served_deployment_keeps_to_what_its_host_has_left(hosted: Api) -> None:
    host(hosted)
    host(hosted, memory_gib=64, name="elsewhere")
    serve(hosted, memory_gib=1)
    with hosted.database.unit_of_work() as work:
        job, _ = work.jobs.submit(
            hosted.user_id(),
            actor="user:ada",
            spec={"kind": "train-classifier", "name": "model", "priority": 0},
            inputs={},
            slots=1,
            memory_bytes=5 * 2**30,
            gpus=0,
            max_runtime_s=3600,
            request_sha256="0",
        )
        work.jobs.assign(job.id, "serving-1", lease_s=86_400)
    status, said = want(hosted, memory_gib=4)
    assert status == 422
    assert "serving-1" in said
    assert "3.00 GiB" in said, said
    assert state_of(hosted) == (1, "serving-1", "http://127.0.0.1:1")
    assert want(hosted, memory_gib=3)[0] == 202
    assert state_of(hosted) == (3, "serving-1", "http://127.0.0.1:1")
    # Less is always possible, also where the host has less by now than was given out.
    host(hosted, memory_gib=2)
    assert want(hosted, memory_gib=2.5)[0] == 202


def test_a_deployment_that_does_not_answer_goes_to_another_host_when_it_grows(hosted: Api) -> None:
    host(hosted)
    host(hosted, memory_gib=64, name="elsewhere")
    serve(hosted, memory_gib=1)
    report(hosted, state="failed", endpoint=None, endpoint_key=None)
    assert want(hosted, memory_gib=32)[0] == 202
    assert state_of(hosted) == (32, None, None)


def test_a_replica_computes_on_one_gpu_at_most(hosted: Api) -> None:
    host(hosted, gpus=2)
    assert want(hosted, gpus=2)[0] == 422
    assert want(hosted, gpus=2, replicas=2)[0] == 202
    assert hosted.client.get("/v1/deployments/quality").json()["gpus"] == 2


def test_a_language_model_is_reckoned_with_its_keys_and_values(trained: Api) -> None:
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
    }
    content = json.dumps(config).encode()
    trained.objects().put_bytes("artifacts/llm/config.json", content)
    files = (
        ManifestFile(path="config.json", bytes=len(content), sha256=sha256(content)),
        ManifestFile(path="model.safetensors", bytes=269_000_000, sha256=sha256(b"")),
    )
    base = Manifest(artifact="model", task="text-generation", files=files)
    adapter_files = (ManifestFile(path="adapter_model.safetensors", bytes=1_000_000, sha256=sha256(b"")),)
    origin = ModelOrigin(reference="ada/llm@1", digest=base.digest)
    adapter = Manifest(artifact="model", task="text-generation", files=adapter_files, base=origin)
    with trained.database.unit_of_work() as work:
        work.models.add_version(trained.user_id(), "llm", manifest=base, prefix="artifacts/llm")
        work.models.add_version(trained.user_id(), "adapter", manifest=adapter, prefix="artifacts/adapter")
    whole, adapted = (
        trained.client.put(f"/v1/deployments/{name}", json={}).json()["memory_bytes"] for name in ("llm", "adapter")
    )
    # Weights in fp32, and 32,768 tokens of 46,080 bytes each.
    assert whole > 134_500_000 * 4 + 32_768 * 46_080
    assert adapted == whole + 2_000_000
    twice = trained.client.put("/v1/deployments/llm", json={"replicas": 2}).json()["memory_bytes"]
    assert twice == 2 * whole
