"""What is said of a deployment's memory, and what is refused for it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobspecs.hosts import GpuDevice, Machine
from jobspecs.manifest import Manifest, ManifestFile
from storage.tables import HostRow
from tests.api.conftest import Api, sha256
from tests.workers.local_models.gguf_file import write_tiny_gguf

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    **{"num_hidden_layers": 30, "hidden_size": 576, "intermediate_size": 1536, "vocab_size": 49152},
    **{"num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192},
}
#: Keys and values of one token in fp32.
PER_TOKEN = 46_080


def register(api: Api, name: str, files: dict[str, bytes], sizes: dict[str, int] | None = None, **more: Any) -> None:
    """`sizes`: of files that are only told of."""
    prefix, listed = f"artifacts/{secrets.token_hex(6)}", []
    with closing(api.objects()) as store:
        for path, content in files.items():
            store.put_bytes(f"{prefix}/{path}", content)
    for path, content in files.items():
        listed.append(ManifestFile(path=path, bytes=len(content), sha256=sha256(content)))
    listed += [ManifestFile(path=path, bytes=size, sha256="0" * 64) for path, size in (sizes or {}).items()]
    manifest = Manifest(artifact="model", files=tuple(listed), **more)
    with api.database.unit_of_work() as work:
        work.models.add_version(api.user_id(), name, manifest=manifest, prefix=prefix)


@pytest.fixture
def llm(api: Api) -> Api:
    config = {"config.json": json.dumps(CONFIG).encode()}
    register(api, "llm", config, {"model.safetensors": 4 * 134_515_008}, task="text-generation")
    return api


def deploy(api: Api, **wanted: Any) -> Any:
    answer = api.client.put("/v1/deployments/llm", json=wanted)
    assert answer.status_code == 202, answer.text
    return answer.json()


def refused(api: Api, **wanted: Any) -> tuple[str, str]:
    answer = api.client.put("/v1/deployments/llm", json=wanted)
    assert answer.status_code == 422, answer.text
    return answer.json()["error"]["param"], answer.json()["error"]["message"]


def test_the_answer_says_what_each_replica_takes_and_a_smaller_context_takes_less(llm: Api) -> None:
    usual = deploy(llm)
    main = usual["memory"]["main"]
    assert usual["memory_bytes"] == sum(main.values())
    assert main["kv_cache_bytes"] == 32_768 * PER_TOKEN
    assert usual["memory"]["gpu"] is None
    small = deploy(llm, context_tokens=1024, sequences=4, replicas=2)
    assert small["memory"]["main"]["kv_cache_bytes"] == 4096 * PER_TOKEN
    assert (small["memory"]["context_tokens"], small["memory"]["sequences"]) == (1024, 4)
    assert small["memory_bytes"] == 2 * sum(small["memory"]["main"].values())
    given = deploy(llm, memory_gib=2)
    assert given["memory"]["main"]["kv_cache_bytes"] < 32_768 * PER_TOKEN
    assert sum(given["memory"]["main"].values()) == given["memory_bytes"] == 2 * 2**30


def test_what_model_or_engine_can_not_do_is_refused_with_the_figures(llm: Api) -> None:
    for wanted, field, figure in (
        ({"context_tokens": 9000}, "context_tokens", "8,192"),
        ({"sequences": 17}, "sequences", "16"),
        ({"context_tokens": 8192, "sequences": 5}, "context_tokens", "32,768"),
        ({"memory_gib": 0.2}, "memory_gib", "weights 0.50 GiB"),
        ({"memory_gib": 1.5, "context_tokens": 8192, "sequences": 4}, "memory_gib", "keys and values 1.41 GiB"),
    ):
        told = refused(llm, **wanted)
        assert told[0] == field
        assert figure in told[1]


@contextmanager
def host_with_gpu(api: Api, gib: int) -> Iterator[None]:
    gpu = GpuDevice(index=0, uuid="GPU-1", name="one", memory_bytes=gib * 2**30, memory_used_bytes=0)
    machine, engines = Machine(cpus=1, load_1m=0, gpus=[gpu]), {"embedded": {"version": "1"}}
    with api.database.unit_of_work() as work:
        # Hosts of other tests, some with larger GPUs, live for a while in this database.
        work.session.query(HostRow).update({"seen_at": datetime(2000, 1, 1, tzinfo=UTC)})
        work.hosts.announce_serving("with-a-gpu", memory_bytes=1 << 36, gpus=1, engines=engines, machine=machine)
    try:
        yield
    finally:
        with api.database.unit_of_work() as work:
            work.session.query(HostRow).filter_by(name="with-a-gpu").delete()


def test_a_model_larger_than_any_gpu_is_refused_with_what_it_consists_of(llm: Api) -> None:
    with host_with_gpu(llm, 1):
        field, message = refused(llm, gpus=1, engine="embedded")
    assert field == "gpus"
    assert "1.00 GiB each" in message
    assert "keys and values" in message


def test_one_that_is_served_on_a_gpu_may_take_more_of_it(llm: Api) -> None:
    with host_with_gpu(llm, 8):
        small = deploy(llm, gpus=1, context_tokens=256, sequences=1)
        with llm.database.unit_of_work() as work:
            row = work.deployments.find(llm.reach(), "llm")
            assert row is not None
            row.host, row.state, row.endpoint, row.endpoint_key = "with-a-gpu", "ready", "http://127.0.0.1:1", "key"
        larger = deploy(llm, gpus=1)
    assert larger["host"] == "with-a-gpu"
    assert larger["memory"]["gpu"]["kv_cache_bytes"] > small["memory"]["gpu"]["kv_cache_bytes"]


def test_a_ggufs_cache_is_reckoned_from_its_header(api: Api, tmp_path: Path) -> None:
    register(api, "llm", {"tiny.gguf": write_tiny_gguf(tmp_path / "tiny.gguf").read_bytes()})
    memory = deploy(api, context_tokens=256, sequences=3)["memory"]
    # Of each of two layers a key and a value of two heads with 16 numbers in fp16.
    assert memory["main"]["kv_cache_bytes"] == 256 * 3 * (2 * 2 * 2 * 16 * 2)
    assert "256" in refused(api, context_tokens=257)[1]


def test_an_encoder_has_no_context_to_declare(api: Api) -> None:
    register(api, "llm", {}, {"model.safetensors": 1000}, task="text-classification")
    assert refused(api, context_tokens=512)[0] == "context_tokens"
    memory = deploy(api)["memory"]
    assert (memory["main"]["kv_cache_bytes"], memory["context_tokens"]) == (0, None)
