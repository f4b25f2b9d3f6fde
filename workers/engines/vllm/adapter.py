"""vLLM: language models on GPUs, or on a CPU that the environment `vllm-cpu` is built for.

Its server asks for the key below /v1 only, so it runs behind a door of ours (`door.py`).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from jobspecs.engines import VLLM
from jobspecs.lifecycle import Reason
from scheduling.estimates.engine_memory import FOREIGN_RUNTIME_BYTES, GPU_SHARE
from workers.engines.environments import BuiltEnvironment, built_environment
from workers.engines.interface import Call, EngineOrder, Installed, Launch, Measured, ServedAdapter
from workers.run.context import RunFailed

#: Runner environments that have it, the first one built counts; then a `vllm` on PATH.
ENVIRONMENTS = ("vllm", "vllm-cpu")
#: The ranks that --max-lora-rank takes.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_BASE = "base"
#: Adapters that may come to a process beside those of its start. vLLM keeps room for each, at the largest rank, and
#: frees none when one is unloaded. Without room it takes another one's, and answers in hand are known to have gone on
#: with the new weights: so nothing is loaded beyond the room, and a process that is full gives way to a new one.
SPARE_ADAPTERS = 4
_RANK_FLAG = "--max-lora-rank"
_DOOR = "eigenwerk_door"
#: Sleeping needs vLLM's development server, whose routes run what they are told: whoever has the engine's key may.
SLEEP_VARIABLE = "EIGENWERK_VLLM_SLEEP"


class Vllm:
    """Adapters are served beside their base, and may come and go while it serves."""

    kind = VLLM
    measured = Measured(
        prompt_tokens="vllm:prompt_tokens_total",
        generated_tokens="vllm:generation_tokens_total",
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        cache_share="vllm:kv_cache_usage_perc",
    )

    def installed(self) -> Installed | None:
        if (environment := _environment()) is not None:
            distribution = environment.name.replace("-", "_")
            return Installed(environment.version_of(distribution) or environment.name, environment.digest)
        program = shutil.which("vllm")
        return None if program is None else Installed(f"vllm ({program})")

    def served_name(self, order: EngineOrder) -> str | None:
        return VLLM.told(order.model, [adapter.name for adapter in order.adapters])

    def launch(self, order: EngineOrder, folder: Path) -> Launch:
        # The adapter has the name that is asked for, and its base another one.
        model, name = (order.model_dir, order.model) if order.base_dir is None else (order.base_dir, _BASE)
        flags = [
            *("--model", str(model), "--served-model-name", name),
            *("--host", "127.0.0.1", "--port", str(order.port)),
            # Sampling that a request leaves open is OpenAI's, not what lies beside the model.
            *("--generation-config", "vllm"),
            *("--middleware", f"{_DOOR}.Door"),
        ]
        shutil.copy(Path(__file__).with_name("door.py"), folder / f"{_DOOR}.py")
        if loras := _loras(order):
            # All may answer in one step.
            flags += ["--enable-lora", "--max-loras", str(_places(order, len(loras)))]
            flags += [_RANK_FLAG, str(max(map(_max_rank, loras.values())))]
            flags += ["--lora-modules", *(json.dumps({"name": name, "path": str(at)}) for name, at in loras.items())]
        if order.context_tokens is not None:
            flags += ["--max-model-len", str(order.context_tokens)]
        if order.sequences is not None:
            flags += ["--max-num-seqs", str(order.sequences)]
        if order.gpu_ids:
            flags += ["--gpu-memory-utilization", str(GPU_SHARE)]
        if _sleeps() and order.gpu_ids:
            # On a CPU the flag is refused ("not supported on current platform"); the routes are there without it.
            flags.append("--enable-sleep-mode")
        if not order.gpu_ids:
            flags += ["--dtype", "bfloat16", "--enforce-eager"]
        variables = {**_variables(order), "PYTHONPATH": _path_with(folder)}
        adapters_max = len(order.adapters) + SPARE_ADAPTERS if order.adapters else 0
        return Launch((*_program(), *flags), variables, adapters_max=adapters_max)

    def load(self, launch: Launch, adapter: ServedAdapter) -> Call | None:
        # The largest rank is settled at the start.
        if _RANK_FLAG not in launch.argv:
            return None
        try:
            rank = _max_rank(adapter.folder)
        except RunFailed:
            return None  # a new process refuses it in the same words
        if rank > int(launch.argv[launch.argv.index(_RANK_FLAG) + 1]):
            return None
        return Call("POST", "/v1/load_lora_adapter", {"lora_name": adapter.name, "lora_path": str(adapter.folder)})

    def unload(self, adapter: ServedAdapter) -> Call:
        return Call("POST", "/v1/unload_lora_adapter", {"lora_name": adapter.name})

    def sleep(self, order: EngineOrder) -> Call | None:
        # It moves the weights into main memory. On a CPU that gives nobody anything.
        return Call("POST", "/sleep?level=1") if _sleeps() and order.gpu_ids else None

    def wake(self) -> Call | None:
        return Call("POST", "/wake_up") if _sleeps() else None


def _environment() -> BuiltEnvironment | None:
    return next((found for name in ENVIRONMENTS if (found := built_environment(name)) is not None), None)


def _program() -> tuple[str, ...]:
    environment = _environment()
    if environment is not None:
        # Not the program `vllm`: it asks for the metadata of a distribution of that name, which the CPU build is not.
        return (str(environment.python), "-m", "vllm.entrypoints.openai.api_server")
    program = shutil.which("vllm")
    if program is None:
        raise RunFailed(
            Reason.unsatisfiable,
            f"This host has no vLLM. Build it (eigenwerk env build {ENVIRONMENTS[-1]}), or put `vllm` on PATH.",
        )
    return (program, "serve")


def _path_with(folder: Path) -> str:
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


def _variables(order: EngineOrder) -> dict[str, str]:
    variables = {
        "VLLM_API_KEY": order.key,
        "VLLM_NO_USAGE_STATS": "1",
    }
    if order.adapters:
        variables["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    if _sleeps():
        variables["VLLM_SERVER_DEV_MODE"] = "1"
    if not order.gpu_ids:
        variables["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{order.threads - 1}" if order.threads > 1 else "0"
        variables["VLLM_CPU_KVCACHE_SPACE"] = str(_cache_gib(order))
    return variables


def _cache_gib(order: EngineOrder) -> int:
    """Whole GiB of main memory for keys and values: what the deployment's has beside weights and the engine itself."""
    if order.memory_bytes is None:
        return 1
    folder = order.base_dir or order.model_dir
    weights_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return max(1, (order.memory_bytes - weights_bytes - FOREIGN_RUNTIME_BYTES) >> 30)


def _loras(order: EngineOrder) -> dict[str, Path]:
    """By the names that requests are given: the one that is deployed by itself, or those beside the model."""
    if order.base_dir is not None:
        return {order.model: order.model_dir}
    return {adapter.name: adapter.folder for adapter in order.adapters}


def _places(order: EngineOrder, loras: int) -> int:
    """Of adapters in vLLM. On a CPU the last place stays empty.

    There vLLM 0.32 adds what is in the last place to answers of the base that grow beside an adapter's: "The capital of
    France is Paris." became "The capital of the world of the chat-".
    """
    return loras + (SPARE_ADAPTERS + (not order.gpu_ids) if order.adapters else 0)


def _max_rank(adapter: Path) -> int:
    """The adapter's rank, rounded up to one that vLLM takes. Raises RunFailed(invalid_model)."""
    try:
        config = json.loads((adapter / "adapter_config.json").read_bytes())
        rank = max(int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values()), 1)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFailed(
            Reason.invalid_model, f"adapter_config.json does not tell the adapter's rank: {error}"
        ) from error
    fitting = [allowed for allowed in _RANKS if allowed >= rank]
    if not fitting:
        raise RunFailed(Reason.unsatisfiable, f"vLLM takes adapters up to rank {_RANKS[-1]}; this one has {rank}.")
    return fitting[0]


def _sleeps() -> bool:
    return os.environ.get(SLEEP_VARIABLE) == "1"
