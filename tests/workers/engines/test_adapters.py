"""Adapters of models on engines of others, and what else their processes are started with."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import gguf
import pytest
import xllamacpp

from jobspecs.engines import COMPLETIONS, TGI, VLLM
from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest, describe_files, write_manifest
from scheduling.estimates.serving import GGUF_RUNTIME_BYTES
from tests.workers.engines.contenders import KEY, MODEL, PATIENCE_S, started, write_model
from tests.workers.inference.processes import arguments_and_variables
from tests.workers.local_models.gguf_file import write_tiny_gguf
from workers.daemon.process_control import descendants_of
from workers.engines.interface import EngineFailure, EngineOrder, EngineProcess, EngineState, ServedAdapter
from workers.engines.llamacpp.adapter import SLOTS, LlamaCpp, context_tokens, files_of, scaled
from workers.engines.tgi.adapter import Tgi
from workers.engines.tgi.export import export_adapter
from workers.engines.vllm.adapter import SLEEP_VARIABLE, SPARE_ADAPTERS, Vllm
from workers.run.context import RunFailed

PROMPT = {"prompt": "the sea", "max_tokens": 4, "temperature": 0}


def write_adapter(folder: Path, rank: int = 12, **more: object) -> Manifest:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": rank, "target_modules": ["q_proj"], "newer_than_peft_0_14": True, **more}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(bytes(16))
    manifest = Manifest(artifact="model", task="text-generation", files=describe_files(folder))
    write_manifest(folder, manifest)
    return manifest


def order_for(folder: Path, **more: object) -> EngineOrder:
    order = {"model_dir": folder, "digest": "", "port": 7000, "key": KEY, **more}
    return EngineOrder(model=MODEL, task="text-generation", **order)  # type: ignore[arg-type]


def beside(folder: Path, *ranks: int) -> tuple[ServedAdapter, ...]:
    """Adapters of these ranks, alice/lora0@1 and so on."""
    served = []
    for place, rank in enumerate(ranks):
        manifest = write_adapter(folder / f"lora{place}", rank)
        name = f"alice/lora{place}@1"
        served.append(ServedAdapter(name, folder / f"lora{place}", manifest.digest, manifest.bytes_total))
    return tuple(served)


@pytest.mark.parametrize("name", ["tgi", "vllm"])
def test_an_adapter_is_served_with_its_base_under_the_name_that_requests_are_given(name: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    manifest = write_model(name, base)
    with started(name, tmp_path, write_adapter(tmp_path / "model"), (base, manifest)) as contender:
        contender.await_state(EngineState.ready)
        assert contender.ask(COMPLETIONS, PROMPT).status_code == 200


def test_vllm_serves_several_adapters_beside_their_base_each_under_its_name(tmp_path: Path) -> None:
    adapters = beside(tmp_path, 8, 20)
    manifest = write_model("vllm", tmp_path / "model")
    with started("vllm", tmp_path, manifest, adapters=adapters) as contender:
        contender.await_state(EngineState.ready)
        told = contender.engine.served_name(contender.order)
        assert VLLM.known(told) == (MODEL, ("alice/lora0@1", "alice/lora1@1"))
        for name in (MODEL, "alice/lora0@1", "alice/lora1@1"):
            assert contender.ask(COMPLETIONS, {**PROMPT, "model": name}).json()["model"] == name
        assert contender.ask(COMPLETIONS, {**PROMPT, "model": "alice/lora2@1"}).status_code == 404
        deadline = time.monotonic() + PATIENCE_S
        while contender.process.load().cache_share != 0.25:
            assert contender.process.state() is EngineState.ready
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_vllm_loads_and_unloads_adapters_while_it_serves(tmp_path: Path) -> None:
    first, second, third = beside(tmp_path, 12, 8, 40)
    manifest = write_model("vllm", tmp_path / "model")
    with started("vllm", tmp_path, manifest, adapters=(first,)) as contender:
        contender.await_state(EngineState.ready)
        process = contender.process
        assert process.can_have((second,))
        assert not process.can_have((first, third)), "its rank is beyond what the process was started for"
        assert outcome_of(process, (first, second)) is True
        assert contender.ask(COMPLETIONS, {**PROMPT, "model": second.name}).json()["model"] == second.name
        while not process.unload_adapters((second,)):
            assert process.state() is EngineState.ready
            time.sleep(0.02)
        assert contender.ask(COMPLETIONS, {**PROMPT, "model": first.name}).status_code == 404
        write_adapter(tmp_path / "odd", 8, target_modules=["no such"])
        odd = ServedAdapter("alice/odd@1", tmp_path / "odd", "", 16)
        failure = outcome_of(process, (second, odd))
        assert isinstance(failure, EngineFailure)
        assert failure.reason is Reason.invalid_model
        assert failure.message == (
            "The engine does not take alice/odd@1: Call to add_lora method failed: no such module"
        )
        assert contender.ask(COMPLETIONS, {**PROMPT, "model": second.name}).status_code == 200
        # It may have come to have it all the same, after it was waited for: it is told to let go of it.
        loading = {"lora_name": odd.name, "lora_path": str(first.folder)}
        assert contender.ask("/v1/load_lora_adapter", loading).status_code == 200
        while not process.unload_adapters((second,)):
            assert process.state() is EngineState.ready
            time.sleep(0.02)
        assert contender.ask(COMPLETIONS, {**PROMPT, "model": odd.name}).status_code == 404


def test_a_process_of_vllm_that_has_had_as_many_adapters_as_it_has_room_for_takes_no_more(tmp_path: Path) -> None:
    """Beyond it another adapter's place would be taken, perhaps in the middle of an answer."""
    adapters = beside(tmp_path, *[8] * (SPARE_ADAPTERS + 2))
    with started("vllm", tmp_path, write_model("vllm", tmp_path / "model"), adapters=adapters[:1]) as contender:
        contender.await_state(EngineState.ready)
        process = contender.process
        arguments, _ = arguments_and_variables(descendants_of(process.pid)[0])
        # On a CPU the base's answers get what is in the last place: nothing.
        assert arguments[arguments.index("--max-loras") + 1] == str(1 + SPARE_ADAPTERS + 1)
        assert not process.can_have(adapters)
        for adapter in adapters[1:-1]:
            assert outcome_of(process, (adapter,)) is True
            while not process.unload_adapters((adapter,)):
                assert process.state() is EngineState.ready
                time.sleep(0.02)
        assert process.can_have(())
        assert not process.can_have(adapters[-1:])


def outcome_of(process: EngineProcess, adapters: tuple[ServedAdapter, ...]) -> bool | EngineFailure:
    deadline = time.monotonic() + PATIENCE_S
    while (outcome := process.load_adapters(adapters)) is False:
        assert process.state() is EngineState.ready
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return outcome


def test_engines_that_take_adapters_at_their_start_only_are_not_asked_for_others(tmp_path: Path) -> None:
    (adapter,) = beside(tmp_path, 8)
    for name in ("vllm", "tgi"):
        (tmp_path / name).mkdir()
        manifest = write_model(name, tmp_path / name / "model")
        with started(name, tmp_path / name, manifest) as contender:
            assert not contender.process.can_have((adapter,))


def test_every_route_of_vllm_but_its_health_asks_for_the_key(tmp_path: Path) -> None:
    """Its own server asks below /v1 only: its routes for SageMaker answer prompts and load any folder."""
    with started("vllm", tmp_path, write_model("vllm", tmp_path / "model")) as contender:
        contender.await_state(EngineState.ready)
        assert contender.ask("/invocations", PROMPT).status_code == 200
        assert contender.ask("/invocations", PROMPT, key="another").status_code == 401
        assert contender.ask("/metrics", key="another").status_code == 401
        assert contender.ask("/health", key="another").status_code == 200


def test_tgi_serves_several_adapters_beside_their_base_each_under_its_name(tmp_path: Path) -> None:
    manifest = write_model("tgi", tmp_path / "model")
    with started("tgi", tmp_path, manifest, adapters=beside(tmp_path, 8, 20)) as contender:
        contender.await_state(EngineState.ready)
        model, adapters = TGI.known(contender.engine.served_name(contender.order))
        assert (model, adapters) == ("tgi", ("alice/lora0@1", "alice/lora1@1"))
        for name in ("tgi", *map(TGI.adapter_name, adapters)):
            assert contender.ask(COMPLETIONS, {**PROMPT, "model": name}).json()["model"] == name
            asked = {"inputs": "a", "parameters": {"adapter_id": name}}
            assert contender.ask("/generate", asked).json()["generated_text"] == f"{name}: a story"


def test_files_of_an_adapter_that_are_not_those_of_its_manifest_are_never_served(tmp_path: Path) -> None:
    (adapter,) = beside(tmp_path, 8)
    (adapter.folder / "adapter_model.safetensors").write_bytes(bytes(15) + b"x")
    with started("vllm", tmp_path, write_model("vllm", tmp_path / "model"), adapters=(adapter,)) as contender:
        deadline = time.monotonic() + PATIENCE_S
        while (failure := contender.process.failure()) is None:
            assert contender.process.state() is not EngineState.ready
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert failure.reason is Reason.corrupt_artifact


@pytest.mark.parametrize("more", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"alpha_pattern": {"q": 2}}])
def test_what_tgi_would_pass_over_in_an_adapter_is_refused(more: dict[str, object], tmp_path: Path) -> None:
    write_adapter(tmp_path / "model", **more)  # type: ignore[arg-type]
    with pytest.raises(RunFailed, match=next(iter(more))) as refused:
        export_adapter(tmp_path / "model", tmp_path / "export", tmp_path)
    assert refused.value.reason is Reason.unsatisfiable


def test_vllm_on_a_gpu_puts_its_weights_away_and_takes_them_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SLEEP_VARIABLE, "1")
    with started("vllm", tmp_path, write_model("vllm", tmp_path / "model"), gpu_ids=("0",)) as contender:
        contender.await_state(EngineState.ready)
        process = contender.process
        assert process.awake
        assert process.can_sleep
        assert process.sleep()
        assert not process.awake, "it is about to sleep"
        contender.await_state(EngineState.asleep)
        assert contender.ask("/is_sleeping").json()["is_sleeping"] is True
        assert process.wake()
        contender.await_state(EngineState.ready)
        assert contender.ask("/is_sleeping").json()["is_sleeping"] is False
        assert process.awake


def test_what_an_engine_can_not_do_while_it_runs_is_not_asked_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_gpu = EngineOrder(MODEL, "text-generation", tmp_path, "", 0, "", gpu_ids=("0",))
    for adapter in (Tgi(), Vllm()):
        assert adapter.sleep(on_a_gpu) is None
        assert adapter.wake() is None
    monkeypatch.setenv(SLEEP_VARIABLE, "1")
    assert Vllm().sleep(on_a_gpu) is not None
    assert Vllm().sleep(replace(on_a_gpu, gpu_ids=())) is None, "on a CPU it would free nothing"


@pytest.mark.parametrize(
    ("rank", "rounded"), [(1, "8"), (8, "8"), (12, "16"), (129, "256"), (300, "320"), (512, "512")]
)
def test_vllm_is_given_a_rank_that_it_takes(
    rank: int, rounded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.engines.vllm.adapter._program", lambda: ("vllm", "serve"))
    write_adapter(tmp_path / "model", rank)
    launch = Vllm().launch(order_for(tmp_path / "model", base_dir=tmp_path), tmp_path)
    assert launch.argv[launch.argv.index("--max-lora-rank") + 1] == rounded


def test_a_rank_that_vllm_can_not_have_is_refused_and_the_largest_of_a_pattern_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.engines.vllm.adapter._program", lambda: ("vllm", "serve"))
    write_adapter(tmp_path / "model", 8, rank_pattern={"q_proj": 600})
    with pytest.raises(RunFailed, match="512") as refused:
        Vllm().launch(order_for(tmp_path / "model", base_dir=tmp_path), tmp_path)
    assert refused.value.reason is Reason.unsatisfiable


def test_the_launcher_of_tgi_never_learns_the_key_that_it_would_write_into_its_log(tmp_path: Path) -> None:
    with started("tgi", tmp_path, write_model("tgi", tmp_path / "model")) as contender:
        contender.await_state(EngineState.ready)
        assert "api_key=None" in contender.process.log_tail()
        assert KEY not in contender.process.log_tail()
        assert contender.ask(COMPLETIONS, PROMPT, key="another").status_code == 401
        knowing = [
            arguments[1].rpartition("/")[2]
            for arguments, variables in map(arguments_and_variables, descendants_of(contender.process.pid))
            if KEY in variables.get("API_KEY", "")
        ]
        assert knowing in ([], ["text-generation-router"])


def test_the_program_llama_server_is_given_flags_that_its_parser_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.engines.llamacpp.adapter.shutil.which", lambda program: f"/opt/{program}")
    write_tiny_gguf(tmp_path / "tiny.gguf")
    launch = LlamaCpp().launch(order_for(tmp_path), tmp_path)
    (library,) = Path(xllamacpp.__file__).parent.glob("xllamacpp.*.so")
    parser = library.read_bytes()  # the same source: the wheel has the program's parser
    flags = [word for word in launch.argv if word.startswith("--")]
    assert [flag for flag in flags if f"{flag}\0".encode() not in parser] == []
    assert "LLAMA_API_KEY" in launch.environment and b"LLAMA_API_KEY\0" in parser
    assert KEY not in launch.argv


def test_several_gguf_models_are_refused_and_adapters_are_loaded_with_the_one(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "a.gguf")
    assert scaled(files_of(tmp_path).adapters) == []
    writer = gguf.GGUFWriter(tmp_path / "lora.gguf", "llama")
    writer.add_type("adapter")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert scaled(files_of(tmp_path).adapters) == [(tmp_path / "lora.gguf", 1.0)]
    write_tiny_gguf(tmp_path / "b.gguf")
    with pytest.raises(RunFailed, match=r"a\.gguf, b\.gguf"):
        files_of(tmp_path)


def test_the_context_is_what_the_memory_holds_and_too_little_is_refused_with_the_figures(tmp_path: Path) -> None:
    found = files_of(write_tiny_gguf(tmp_path / "tiny.gguf").parent)
    cache = found.facts.cache_bytes_per_token
    # Of each of two layers a key and a value of two heads with 16 numbers in fp16.
    assert (found.facts.context_tokens, cache) == (256, 2 * 2 * 2 * 16 * 2)
    needed = found.model.stat().st_size + GGUF_RUNTIME_BYTES

    def tokens(memory_bytes: int | None, **declared: int) -> int:
        return context_tokens(found, order_for(tmp_path, memory_bytes=memory_bytes, **declared))

    assert tokens(needed + 1000 * cache) == 1000
    assert tokens(None) == SLOTS * 256
    assert tokens(needed + 1000 * cache, context_tokens=128, sequences=3) == 3 * 128
    with pytest.raises(RunFailed, match="GiB") as refused:
        tokens(needed + 255 * cache)
    assert refused.value.reason is Reason.unsatisfiable
    with pytest.raises(RunFailed, match="512 tokens"):
        tokens(needed + 511 * cache, context_tokens=256, sequences=2)


def test_what_is_declared_is_what_engines_are_started_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.engines.tgi.adapter.shutil.which", lambda program: f"/opt/{program}")
    monkeypatch.setattr("workers.engines.vllm.adapter.shutil.which", lambda program: f"/opt/{program}")
    monkeypatch.setenv("EIGENWERK_ENVIRONMENTS_DIR", str(tmp_path))
    write_model("tgi", tmp_path / "model")
    order = order_for(tmp_path / "model", context_tokens=4096, sequences=4, gpu_ids=("0",))
    (tmp_path / "tgi").mkdir()
    for adapter, flags in (
        (Vllm(), {"--max-model-len": "4096", "--max-num-seqs": "4", "--gpu-memory-utilization": "0.9"}),
        (Tgi(), {"--max-total-tokens": "4096", "--max-input-tokens": "4095", "--max-batch-total-tokens": "16384"}),
    ):
        argv = adapter.launch(order, tmp_path / "tgi").argv
        assert {flag: argv[argv.index(flag) + 1] for flag in flags} == flags


def test_two_processes_of_tgi_share_neither_ports_nor_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.engines.tgi.adapter.shutil.which", lambda program: f"/opt/{program}")
    write_model("tgi", tmp_path / "model")
    own = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        argv = Tgi().launch(order_for(tmp_path / "model"), tmp_path / place).argv
        own.append({argv[argv.index(flag) + 1] for flag in ("--prometheus-port", "--master-port", "--shard-uds-path")})
    assert len(own[0] | own[1]) == 6
