"""vLLM: language models on GPUs, or on a CPU that the environment `vllm-cpu` is built for."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from jobspecs.engines import VLLM
from jobspecs.lifecycle import Reason
from scheduling.estimates.engine_memory import FOREIGN_RUNTIME_BYTES, GPU_SHARE
from workers.engines.environments import BuiltEnvironment, built_environment
from workers.engines.interface import Call, EngineOrder, Installed, Launch, Measured
from workers.run.context import RunFailed

#: Runner environments that have it, the first one built counts; then a `vllm` on PATH.
ENVIRONMENTS = ("vllm", "vllm-cpu")
#: The ranks that --max-lora-rank takes.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_BASE = "base"
#: Sleeping needs vLLM's development server, whose routes beyond /v1 ask for no key and run what they are told: only on
#: a host that nobody else works on.
SLEEP_VARIABLE = "EIGENWERK_VLLM_SLEEP"


class Vllm:
    """Adapters are served beside their base, those that it was started with."""

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
        ]
        if loras := _loras(order):
            # All may answer in one step.
            flags += ["--enable-lora", "--max-loras", str(len(loras))]
            flags += ["--max-lora-rank", str(max(map(_max_rank, loras.values())))]
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
        return Launch((*_program(), *flags), _variables(order))

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


def _variables(order: EngineOrder) -> dict[str, str]:
    variables = {
        "VLLM_API_KEY": order.key,
        "VLLM_NO_USAGE_STATS": "1",
    }
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
