"""The real vLLM on a CPU, with a real small model: `make test-vllm`, which first builds its environment (2 GB)."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
from workers.engines.interface import EngineFailure, EngineOrder, EngineProcess, EngineState, ServedAdapter
from workers.engines.registry import ENGINES
from workers.engines.vllm.adapter import SLEEP_VARIABLE, Vllm
from workers.inference.replicas import ReplicaSet
from workers.local_models.gguf_model import load_gguf, write_language_model

pytestmark = [
    pytest.mark.skipif("TEST_ENVIRONMENTS" not in os.environ, reason="make test-vllm builds what this needs"),
    pytest.mark.timeout(1500),
]

START_S = 900.0
ANSWER_S = 300.0
CONVERSATION = [{"role": "user", "content": "What is the capital of France?"}]


def write_adapter(folder: Path, scale: float, layer: str = "self_attn.q_proj") -> ServedAdapter:
    """A LoRA of rank 12 on such a layer in each block of SmolLM2-135M."""
    folder.mkdir()
    random, weights = np.random.default_rng(len(folder.name)), {}
    for block in range(30):
        name = f"base_model.model.model.layers.{block}.{layer}"
        weights[f"{name}.lora_A.weight"] = random.normal(0, scale, (12, 576)).astype(np.float32)
        weights[f"{name}.lora_B.weight"] = random.normal(0, scale, (576, 12)).astype(np.float32)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 12,
        "lora_alpha": 12,
        "target_modules": [layer.rpartition(".")[2]],
    }
    config |= {"base_model_name_or_path": "x", "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    manifest = described(folder)
    return ServedAdapter(f"alice/{folder.name}@1", folder, manifest.digest, manifest.bytes_total)


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
    base = described(root / "base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SLEEP_VARIABLE, "1")
        patch.setenv("EIGENWERK_ENVIRONMENTS_DIR", os.environ["TEST_ENVIRONMENTS"])
        engine = ENGINES["vllm"](root / "logs")
        assert engine.installed() is not None, "eigenwerk env build vllm-cpu"
        order = EngineOrder(
            MODEL,
            "text-generation",
            root / "base",
            base.digest,
            0,
            KEY,
            memory_bytes=3 << 30,
            adapters=(write_adapter(root / "one", 0.2), write_adapter(root / "three", 0.25)),
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
    return served.ask(path, {"model": MODEL, "temperature": 0, "max_tokens": 16, **body})


def said(served: Contender, model: str = MODEL) -> str:
    return str(ask(served, CHAT, messages=CONVERSATION, model=model).json()["choices"][0]["message"]["content"])


def test_it_answers_as_the_api_asks_it_and_each_adapter_under_its_name(served: Contender) -> None:
    base = said(served)
    assert "Paris" in base
    begun_s = time.monotonic()
    long = ask(served, COMPLETIONS, prompt="Once upon a time", max_tokens=64, ignore_eos=True).json()
    note("writes", 64 / (time.monotonic() - begun_s), "tokens/s, one answer of the base")
    assert long["usage"]["completion_tokens"] == 64
    names = [adapter.name for adapter in served.order.adapters]
    begun_s = time.monotonic()
    own = ask(served, COMPLETIONS, prompt="Once upon a time", max_tokens=64, ignore_eos=True, model=names[0]).json()
    note("writes", 64 / (time.monotonic() - begun_s), "tokens/s, one answer of an adapter")
    assert own["model"] == names[0]
    alone = [said(served, name) for name in names]
    assert len({base, *alone}) == 3, "each adapter answers under its name"
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda name: said(served, name), [MODEL, *names]))
    # In bf16 a row's last bits depend on its neighbours; the base's own answer does not fall to them.
    assert together[0] == base
    assert len(set(together)) == 3
    streamed = ask(served, COMPLETIONS, prompt="Once upon a time", stream=True).text
    assert streamed.rstrip().endswith("data: [DONE]")
    too_long = ask(served, COMPLETIONS, prompt="sea " * 20000)
    assert too_long.status_code == 400
    assert "maximum context length" in too_long.text
    assert ask(served, CHAT, messages=CONVERSATION, model="no such").status_code == 404
    for path in (CHAT, "/invocations", "/tokenize", "/adapters", "/sleep", "/collective_rpc", "/metrics"):
        assert served.ask(path, {"messages": CONVERSATION}, key="another").status_code == 401, path


def test_adapters_come_and_go_while_it_answers(served: Contender, tmp_path: Path) -> None:
    process, (first, second) = served.process, served.order.adapters
    # The answer that is written meanwhile is not disturbed by it.
    with ThreadPoolExecutor(1) as pool:
        asked = {"prompt": "Once upon a time", "max_tokens": 64, "ignore_eos": True, "model": first.name}
        writing = pool.submit(ask, served, COMPLETIONS, **asked)
        third = write_adapter(tmp_path / "second", 0.3)
        assert process.can_have((second, third))
        begun_s = time.monotonic()
        assert outcome_of(process, (second, third)) is True
        note("loads an adapter in", time.monotonic() - begun_s, "s, beside an answer")
        # In the middle of the other's answer the base is the base.
        assert "Paris" in said(served)
        assert len({said(served, name) for name in (MODEL, first.name, second.name, third.name)}) == 4
        while not process.unload_adapters((second, third)):
            process.state()
            time.sleep(0.05)
        assert writing.result().json()["usage"]["completion_tokens"] == 64
    assert ask(served, CHAT, messages=CONVERSATION, model=first.name).status_code == 404
    assert said(served, second.name) != said(served)
    odd = write_adapter(tmp_path / "odd", 0.1, layer="no_such_layer")
    failure = outcome_of(process, (second, third, odd))
    assert isinstance(failure, EngineFailure)
    sys.stderr.write(f"\nvLLM refuses: {failure.message}\n")
    assert "alice/odd@1" in failure.message
    assert said(served, third.name) != said(served)


def outcome_of(process: EngineProcess, adapters: tuple[ServedAdapter, ...]) -> bool | EngineFailure:
    deadline_s = time.monotonic() + ANSWER_S
    while (outcome := process.load_adapters(adapters)) is False:
        assert time.monotonic() < deadline_s
        process.state()
        time.sleep(0.05)
    return outcome


def test_it_sleeps_and_wakes_and_tells_its_tokens(served: Contender) -> None:
    process, second = served.process, served.order.adapters[1]
    before = said(served), said(served, second.name)
    asleep, awake = Vllm().sleep(replace(served.order, gpu_ids=("0",))), Vllm().wake()
    assert asleep is not None
    assert awake is not None
    assert served.ask(asleep.path, {}).status_code == 200
    assert served.ask("/is_sleeping").json() == {"is_sleeping": True}
    begun_s = time.monotonic()
    assert served.ask(awake.path, {}).status_code == 200
    assert (said(served), said(served, second.name)) == before
    note("wakes and answers twice in", time.monotonic() - begun_s, "s")
    deadline_s = time.monotonic() + ANSWER_S
    while process.tokens().generated < 64 or process.load().cache_share is None:
        assert time.monotonic() < deadline_s, (process.tokens(), process.load())
        process.state()
        time.sleep(0.1)


def test_its_key_stands_on_no_command_line_and_in_no_log(served: Contender) -> None:
    assert KEY not in served.process.log_tail()
    for pid in [served.process.pid]:
        assert KEY not in Path(f"/proc/{pid}/cmdline").read_text()
