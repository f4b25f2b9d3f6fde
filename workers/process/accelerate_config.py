"""The configuration of `accelerate` for a job on several GPUs, as `accelerate config` would write it.

Only how weights, gradients and optimizer are spread is decided here. Types of weights and products are the runner's own
business, as on one GPU, hence `mixed_precision: "no"`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from jobspecs.kinds.finetune_llm import LlmTraining

_FSDP: dict[str, Any] = {
    "fsdp_version": 2,
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    # Each block's weights are gathered for its forward and again for its backward pass: ZeRO-3 in other words.
    "fsdp_reshard_after_forward": True,
    "fsdp_offload_params": False,
    "fsdp_cpu_ram_efficient_loading": False,
    "fsdp_activation_checkpointing": False,
    "fsdp_state_dict_type": "FULL_STATE_DICT",
}
_ZERO_STAGE = {"zero2": 2, "zero3": 3}


def accelerate_config(training: LlmTraining, processes: int, *, on_cpu: bool = False) -> dict[str, Any]:
    """For `training.distributed` other than none. `on_cpu`: processes without GPUs, for tests."""
    config: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_CPU" if on_cpu else "MULTI_GPU",
        "num_machines": 1,
        "machine_rank": 0,
        "num_processes": processes,
        "mixed_precision": "no",
        "use_cpu": on_cpu,
        # A free one.
        "main_process_port": 0,
    }
    if training.distributed == "fsdp":
        return {**config, "distributed_type": "FSDP", "fsdp_config": dict(_FSDP)}
    if training.distributed in _ZERO_STAGE:
        stage = _ZERO_STAGE[training.distributed]
        return {**config, "distributed_type": "DEEPSPEED", "deepspeed_config": _deepspeed(training, stage)}
    return config


def write_accelerate_config(path: Path, config: dict[str, Any]) -> None:
    """As YAML, which `accelerate launch --config_file` reads too."""
    path.write_text(yaml.safe_dump(config, sort_keys=True), encoding="utf-8")


def _deepspeed(training: LlmTraining, stage: int) -> dict[str, Any]:
    return {
        "zero_stage": stage,
        # Micro-batches are ours: the engine is told which one ends a step.
        "gradient_accumulation_steps": 1,
        "gradient_clipping": training.max_grad_norm,
        "offload_optimizer_device": "none",
        "offload_param_device": "none",
        "zero3_init_flag": False,
        "zero3_save_16bit_model": False,
    }
