"""The model that a run starts from: whole or adapter, full precision or 4 bits, with what is trained set free."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from jobspecs.kinds.base import ADAPTER_BASE_SUFFIX, BASE_ROLE
from jobspecs.kinds.finetune_llm import FinetuneLlm, LlmTraining
from jobspecs.lifecycle import Reason
from workers.local_models import linear
from workers.local_models.adapters import is_adapter, keep_fp32_products, load_adapter, merged, new_adapter, nf4
from workers.local_models.base_model import LoadedModel, invalid_model, load_causal_lm
from workers.local_models.devices import move_to
from workers.run.context import RunFailed
from workers.training.checkpoints import trained_tensors
from workers.training.llm.decoder import Decoder, decoder_of, inner_of
from workers.training.optimization import build_optimizer, decay_groups
from workers.training.world import World, assign, on_cpu

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """The model to train, its tokenizer and limits, and where the weights below an adapter came from."""

    decoder: Decoder
    loaded: LoadedModel
    #: The folder of the whole model: the job's own, or the base of the adapter that it goes on with.
    base_dir: Path
    #: The role of that model among the job's origins.
    base_role: str


def load_start(spec: FinetuneLlm, model_dir: Path, models: Mapping[str, Path], device: torch.device) -> Start:
    """Loads, quantizes and adapts. Raises RunFailed(invalid_model)."""
    goes_on = is_adapter(model_dir)
    role = BASE_ROLE + ADAPTER_BASE_SUFFIX if goes_on else BASE_ROLE
    base_dir = models[role] if goes_on and role in models else model_dir
    if goes_on and base_dir == model_dir:
        raise invalid_model("it is an adapter, and its base was not given to the job.")
    dtype, compute = dtypes(spec, device)
    loaded = load_causal_lm(base_dir, dtype, nf4(compute) if spec.tuning == "qlora" else None)
    if device.type == "cpu":
        keep_fp32_products(loaded.model)
    _use_liger(loaded.model, spec.training, device)
    model = move_to(_adapted(loaded, spec, model_dir if goes_on else None), device)
    linear.use_in(model)
    training = spec.training
    try:
        decoder = decoder_of(
            model,
            pad_id=loaded.pad_id,
            packing=training.packing,
            flash=device.type == "cuda" and _wants_flash(training),
            neftune_alpha=training.neftune_alpha,
            half=compute is not torch.float32,
        )
    except ValueError as error:
        raise invalid_model(f"{error}.") from error
    if training.gradient_checkpointing:
        inner_of(model).gradient_checkpointing_enable({"use_reentrant": False})
    return Start(decoder, loaded, base_dir, role)


def spread(start: Start, spec: FinetuneLlm, world: World) -> tuple[Start, Optimizer]:
    """The model and its optimizer, over the processes of the world."""
    model = start.decoder.model
    optimizer = world.prepare(model, build_llm_optimizer(model, spec.training))
    return replace(start, decoder=replace(start.decoder, world=world)), optimizer


def trained_on_main(start: Start, spec: FinetuneLlm, model_dir: Path, models: Mapping[str, Path]) -> tuple[Start, bool]:
    """The start with whole trained weights, and whether this is the process that saves it. All must call it.

    Weights in shards are put together on the CPU, into a model loaded anew: nothing else could save or merge them.
    """
    world = start.decoder.world
    if not world.sharded:
        return start, world.is_main
    with world.gathered(start.decoder.model):
        trained = on_cpu(trained_tensors(start.decoder.model))
    if world.is_main:
        start = load_start(spec, model_dir, models, torch.device("cpu"))
        assign(trained_tensors(start.decoder.model), trained)
    return start, world.is_main


def build_llm_optimizer(model: nn.Module, training: LlmTraining) -> Optimizer:
    """AdamW over what is trained, also in 8 bits (arXiv:2110.02861)."""
    if training.optimizer == "adamw":
        return build_optimizer(model, training)
    if not torch.cuda.is_available():
        raise RunFailed(Reason.unsatisfiable, f"training.optimizer: {training.optimizer} needs a GPU; write adamw.")
    kinds = importlib.import_module("bitsandbytes.optim")
    kind = kinds.PagedAdamW8bit if training.optimizer.startswith("paged") else kinds.AdamW8bit
    optimizer: Optimizer = kind(decay_groups(model, training), lr=training.learning_rate)
    return optimizer


def dtypes(spec: FinetuneLlm, device: torch.device) -> tuple[torch.dtype, torch.dtype]:
    """Of the frozen or trained weights, and of the products. fp32 on CPUs, where bf16 is many times slower."""
    half = device.type == "cuda" and spec.training.precision != "fp32" and torch.cuda.is_bf16_supported()
    if not half:
        return torch.float32, torch.float32
    # What full tuning trains stays in fp32: updates smaller than a bf16 step would be lost.
    return (torch.float32 if spec.tuning == "full" else torch.bfloat16), torch.bfloat16


def _adapted(loaded: LoadedModel, spec: FinetuneLlm, adapter_dir: Path | None) -> nn.Module:
    if adapter_dir is None:
        return loaded.model if spec.tuning == "full" else new_adapter(loaded.model, spec.lora, spec.training.seed)
    model = load_adapter(loaded.model, adapter_dir)
    if spec.tuning != "full":
        _log.info("training goes on with the registered adapter; the settings in lora are its own")
        return model
    whole = merged(model)
    whole.requires_grad_(True)
    return whole


def _wants_flash(training: LlmTraining) -> bool:
    present = importlib.util.find_spec("flash_attn") is not None
    if training.attention == "flash" and not present:
        raise RunFailed(Reason.unsatisfiable, "training.attention: flash_attn is not installed here; write auto.")
    return present and training.attention != "sdpa"


def _use_liger(model: PreTrainedModel, training: LlmTraining, device: torch.device) -> None:
    """Liger's kernels for norms, rotary embeddings and gated layers (arXiv:2410.10989), on GPUs that have them.

    Its fused loss is left out: ours needs the hidden states.
    """
    if device.type != "cuda" or training.liger == "off" or importlib.util.find_spec("liger_kernel") is None:
        return
    kernels = importlib.import_module("liger_kernel.transformers")
    apply = getattr(kernels, f"apply_liger_kernel_to_{model.config.model_type}", None)
    if apply is None:
        _log.info("Liger has no kernels for %s", model.config.model_type)
        return
    apply(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
