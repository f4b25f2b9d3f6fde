from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from jobspecs.kinds.finetune_llm import LlmTraining
from workers.process.accelerate_config import accelerate_config, write_accelerate_config

TYPES = {"ddp": "MULTI_GPU", "fsdp": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}


def written(path: Path, mode: str, **training: Any) -> Path:
    settings = LlmTraining.model_validate({"distributed": mode, **training})
    write_accelerate_config(path / "accelerate.yaml", accelerate_config(settings, 4))
    return path / "accelerate.yaml"


@pytest.mark.parametrize("mode", TYPES)
def test_accelerate_reads_the_configuration(mode: str, tmp_path: Path) -> None:
    loaded = load_config_from_file(str(written(tmp_path, mode)))
    assert loaded.distributed_type.value == TYPES[mode]
    assert (loaded.num_processes, loaded.num_machines, loaded.mixed_precision) == (4, 1, "no")


def environment(path: Path) -> dict[str, str]:
    """What accelerate's launcher gives to each process."""
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "script.py"])
    arguments, defaults, _ = _validate_launch_command(arguments)
    if not arguments.use_deepspeed:
        return dict(prepare_multi_gpu_env(arguments))
    arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
    return dict(prepare_deepspeed_cmd_env(arguments)[1])


def test_fsdp_is_of_the_second_kind_and_shards_blocks_and_gives_them_back(tmp_path: Path) -> None:
    found = environment(written(tmp_path, "fsdp"))
    assert found["ACCELERATE_USE_FSDP"] == "true"
    assert found["FSDP_VERSION"] == "2"
    assert found["FSDP_AUTO_WRAP_POLICY"] == "TRANSFORMER_BASED_WRAP"
    assert found["FSDP_RESHARD_AFTER_FORWARD"] == "true"


@pytest.mark.parametrize(("mode", "stage"), [("zero2", "2"), ("zero3", "3")])
def test_deepspeed_is_told_its_stage_and_how_to_clip(mode: str, stage: str, tmp_path: Path) -> None:
    found = environment(written(tmp_path, mode, max_grad_norm=0.5))
    assert found["ACCELERATE_USE_DEEPSPEED"] == "true"
    assert found["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == stage
    assert found["ACCELERATE_GRADIENT_CLIPPING"] == "0.5"
