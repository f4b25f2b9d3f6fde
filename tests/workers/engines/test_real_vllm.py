"""The real vLLM on a CPU, with a real small model: `make test-vllm`, which first builds its environment (2 GB)."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from jobspecs.engines import CHAT, COMPLETIONS
from jobspecs.manifest import Manifest, describe_files, write_manifest
from tests.weights import smollm2_gguf
from tests.workers.engines.contenders import KEY, MODEL, Contender
from workers.engines.interface import EngineOrder, EngineState
from workers.engines.registry import ENGINES
from workers.engines.vllm import SLEEP_VARIABLE, Vllm
from workers.inference.replicas import ReplicaSet
from workers.local_models.gguf_model import load_gguf, write_language_model

pytestmark = [
    pytest.mark.skipif("TEST_ENVIRONMENTS" not in os.environ, reason="make test-vllm builds what this needs"),
    pytest.mark.timeout(1500),
]

START_S = 900.0
ANSWER_S = 300.0
CONVERSATION = [{"role": "user", "content": "What is the capital of France?"}]


def write_adapter(folder: Path, scale: float) -> Manifest:
    """A LoRA of rank 12 on all queries of SmolLM2-135M."""
    folder.mkdir()
    random, weights = np.random.default_rng(0), {}
    for layer in range(30):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{name}.lora_A.weight"] = random.normal(0, scale, (12, 576)).astype(np.float32)
        weights[f"{name}.lora_B.weight"] = random.normal(0, scale, (576, 12)).astype(np.float32)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 12, "lora_alpha": 12, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "x", "bias": "none"}))
    return described(folder)


def described(folder: Path) -> Manifest:
    manifest = Manifest(artifact="model", task="text-generation", files=describe_files(folder))
    write_manifest(folder, manifest)
    return manifest


def note(name: str, value: float, unit: str) -> None:
    sys.stderr.write(f"\nvLLM on this CPU: {name} {value:.1f} {unit}\n")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contender]:
    root = tmp_path_factory.mktemp("vllm")
    converted = load_gguf(smollm2_gguf(), "fp32")
    write_language_model(root / "base", converted.model, converted.tokenizer)
    base, adapter = described(root / "base"), write_adapter(root / "adapter", 0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SLEEP_VARIABLE, "1")
        patch.setenv("EIGENWERK_ENVIRONMENTS_DIR", os.environ["TEST_ENVIRONMENTS"])
        engine = ENGINES["vllm"](root / "logs")
        assert engine.installed() is not None, "eigenwerk env build vllm-cpu"
        order = EngineOrder(
            MODEL,
            "text-generation",
            root / "adapter",
            adapter.digest,
            0,
            KEY,
            base_dir=root / "base",
            base_digest=base.digest,
            memory_bytes=3 << 30,
        )
        replicas = ReplicaSet(engine, order, 1)
        begun_s = time.monotonic()
        replicas.tick(begun_s)
        contender = Contender("vllm", engine, replicas)
        while contender.process.state() is EngineState.starting:
            assert time.monotonic() - begun_s < START_S, contender.process.log_tail()
            time.sleep(0.2)
        assert contender.process.state() is EngineState.ready, contender.process.log_tail()
        note("starts in", time.monotonic() - begun_s, "s")
        yield contender
        replicas.stop(0.0)
        while not replicas.stopped:
            replicas.tick(time.monotonic() - begun_s)
            time.sleep(0.1)


def ask(served: Contender, path: str, **body: Any) -> Any:
    return served.ask(path, {"temperature": 0, "max_tokens": 16, **body})


def test_it_answers_as_the_api_asks_it(served: Contender) -> None:
    begun_s = time.monotonic()
    base = ask(served, CHAT, messages=CONVERSATION, model="base").json()["choices"][0]["message"]["content"]
    assert "Paris" in base
    long = ask(served, COMPLETIONS, prompt="Once upon a time", max_tokens=64, ignore_eos=True, model="base").json()
    note("writes", (64 + 16) / (time.monotonic() - begun_s), "tokens/s, one answer")
    assert long["usage"]["completion_tokens"] == 64
    changed = ask(served, CHAT, messages=CONVERSATION).json()["choices"][0]["message"]["content"]
    assert changed != base, "the adapter of the deployment answers under its name"
    streamed = ask(served, COMPLETIONS, prompt="Once upon a time", stream=True).text
    assert streamed.rstrip().endswith("data: [DONE]")
    too_long = ask(served, COMPLETIONS, prompt="sea " * 20000)
    assert too_long.status_code == 400
    assert "maximum context length" in too_long.text
    assert ask(served, CHAT, messages=CONVERSATION, model="no such").status_code == 404
    assert served.ask(CHAT, {"messages": CONVERSATION}, key="another").status_code == 401


def test_it_sleeps_and_wakes_and_tells_its_tokens(served: Contender) -> None:
    process = served.process
    asleep, awake = Vllm().sleep(replace(served.order, gpu_ids=("0",))), Vllm().wake()
    assert asleep is not None
    assert awake is not None
    assert served.ask(asleep.path, {}).status_code == 200
    assert served.ask("/is_sleeping").json() == {"is_sleeping": True}
    assert served.ask(awake.path, {}).status_code == 200
    assert ask(served, CHAT, messages=CONVERSATION).status_code == 200
    deadline_s = time.monotonic() + ANSWER_S
    while process.tokens().generated < 64 or process.load().cache_share is None:
        assert time.monotonic() < deadline_s, (process.tokens(), process.load())
        process.state()
        time.sleep(0.1)


def test_its_key_stands_on_no_command_line_and_in_no_log(served: Contender) -> None:
    assert KEY not in served.process.log_tail()
    for pid in [served.process.pid]:
        assert KEY not in Path(f"/proc/{pid}/cmdline").read_text()
