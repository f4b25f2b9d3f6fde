"""Low-rank adapters (LoRA, arXiv:2106.09685; QLoRA, arXiv:2305.14314): new ones, and registered ones to go on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from jobspecs.kinds.finetune_llm import Lora
from workers.local_models.base_model import first_line, invalid_model
from workers.local_models.on_demand import OnDemand

peft: Any = OnDemand("peft")

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"
#: What is taken from an adapter's configuration; everything else there could name code, files or places.
_KNOWN = (
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "exclude_modules",
    "use_rslora",
    "use_dora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "bias",
    "fan_in_fan_out",
    "layers_to_transform",
    "layers_pattern",
)
_NAME = "default"


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds an adapter instead of a whole model."""
    return (folder / CONFIG_NAME).is_file()


def nf4(compute: torch.dtype) -> BitsAndBytesConfig:
    """4-bit NormalFloat with double quantization; products are computed in `compute`."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def keep_fp32_products(model: nn.Module) -> None:
    """Keeps 4-bit layers on CPUs from switching to bf16 kernels outside training: judged is what was trained."""
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def new_adapter(model: PreTrainedModel, lora: Lora, seed: int) -> nn.Module:
    """The model with a fresh adapter, drawn from `seed`, that changes nothing yet; all else is frozen.

    Raises RunFailed(invalid_model) when the layers don't exist.
    """
    targets = "all-linear" if lora.target_modules == "auto" else lora.target_modules
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=cast(int, lora.alpha),
        lora_dropout=lora.dropout,
        target_modules=targets,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        modules_to_save=lora.modules_to_save or None,
    )
    _check_layers(model, lora)
    torch.manual_seed(seed)
    return _wrapped(model, config)


def load_adapter(model: PreTrainedModel, folder: Path) -> nn.Module:
    """The model with the adapter of this folder, trainable. Raises RunFailed(invalid_model) for what can't be used."""
    try:
        stated: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_bytes())
        if stated.get("peft_type") != "LORA":
            raise invalid_model(f"the adapter is of type {stated.get('peft_type')!r}; only LoRA is known here.")
        weights = load_file(folder / WEIGHTS_NAME)
        config = peft.LoraConfig(task_type="CAUSAL_LM", **{name: stated[name] for name in _KNOWN if name in stated})
        wrapped = _wrapped(model, config)
        outcome = peft.set_peft_model_state_dict(wrapped, weights)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise invalid_model(f"the adapter can't be loaded: {first_line(error)}") from error
    absent = [name for name in outcome.missing_keys if "lora_" in name or "modules_to_save" in name]
    if absent or outcome.unexpected_keys:
        raise invalid_model(f"the adapter does not fit its base: {(absent or outcome.unexpected_keys)[0]}.")
    return wrapped


def write_adapter(model: nn.Module, folder: Path, base_reference: str) -> None:
    """`adapter_config.json` and `adapter_model.safetensors`, as peft reads them.

    `base_reference` names the base; peft and transformers find it under its name and revision at /hf.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wrapped: Any = model
    config = wrapped.peft_config[_NAME]
    name, _, revision = base_reference.removeprefix("hub:").partition("@")
    config.base_model_name_or_path, config.revision = name, revision or None
    config.inference_mode = True
    config.save_pretrained(folder)
    stated = json.loads((folder / CONFIG_NAME).read_bytes())
    # A set in the configuration comes out in an order that changes from process to process.
    ordered = {
        key: sorted(value) if key == "target_modules" and isinstance(value, list) else value
        for key, value in stated.items()
    }
    (folder / CONFIG_NAME).write_text(json.dumps(ordered, indent=2, sort_keys=True), encoding="utf-8")
    weights = peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(weights.items())}
    save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})


def merged(model: nn.Module) -> PreTrainedModel:
    """The library's model with the adapter added to its weights; the wrapper is used up."""
    wrapped: Any = model
    return cast(PreTrainedModel, wrapped.merge_and_unload(safe_merge=True))


def _wrapped(model: PreTrainedModel, config: Any) -> nn.Module:
    tied = model.config.get_text_config().tie_word_embeddings
    if config.modules_to_save and tied and {"lm_head", "embed_tokens"} & set(config.modules_to_save):
        raise invalid_model(
            "its input and output embeddings are one matrix, so neither can be trained alone. "
            "Leave lora.modules_to_save out, or choose tuning: full."
        )
    return cast(nn.Module, peft.get_peft_model(model, config, adapter_name=_NAME))


def _check_layers(model: PreTrainedModel, lora: Lora) -> None:
    names = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    head = next((n.rpartition(".")[2] for n, m in model.named_modules() if m is model.get_output_embeddings()), "")
    wanted = [] if lora.target_modules == "auto" else lora.target_modules
    for name in wanted:
        if name.rpartition(".")[2] == head:
            raise invalid_model(
                f"lora.target_modules: {name} is the LM head; put it into lora.modules_to_save instead."
            )
        if name.rpartition(".")[2] not in names:
            raise invalid_model(
                f"lora.target_modules: there is no linear layer {name}; there are {', '.join(sorted(names))}."
            )
