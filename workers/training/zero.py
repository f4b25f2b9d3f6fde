"""DeepSpeed's ZeRO stages 2 and 3 (arXiv:1910.02054) through accelerate. Needs GPUs and the package `deepspeed`.

The engine owns gradients, clipping and the optimizer's step, and cuts the optimizer's state across parameters. It can't
be put into our checkpoints: an interrupted job starts anew.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar, cast

import torch
from accelerate.utils.launch import prepare_deepspeed_cmd_env
from torch import nn
from torch.optim import Optimizer

from jobspecs.lifecycle import Reason
from workers.run.context import RankPlace, RunFailed
from workers.training.distributed import Entrance, Ranks

_log = logging.getLogger(__name__)
T = TypeVar("T")


def check_deepspeed(place: RankPlace) -> None:
    """Raises RunFailed(unsatisfiable) unless DeepSpeed is installed and there are GPUs for it."""
    if importlib.util.find_spec("deepspeed") is None:
        raise RunFailed(
            Reason.unsatisfiable,
            f"training.distributed: {place.mode} needs DeepSpeed, which is not installed on this worker. "
            "Run `pip install deepspeed` there, or write fsdp, which needs nothing more and shares out as zero3 does.",
        )
    if place.on_cpu:
        raise RunFailed(Reason.unsatisfiable, f"training.distributed: {place.mode} needs GPUs; write ddp or fsdp.")


class ZeroRanks(Ranks):
    """Processes that train through DeepSpeed's engine."""

    resumable = False

    def __init__(self, place: RankPlace) -> None:
        super().__init__(place)
        _log.warning("%s writes no checkpoints: if it is interrupted, this job starts anew", place.mode)

    @property
    def sharded(self) -> bool:
        return self.mode == "zero3"

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> Optimizer:
        # The engine wants to know, for its reports only.
        self.accelerator.state.deepspeed_plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = 1
        entrance = Entrance(model)
        if self.sharded:
            # The head's weights are used in the entrance's forward, not in a forward of their own.
            head = cast(Any, entrance.library_model()).get_output_embeddings()
            _deepspeed().zero.register_external_parameter(entrance, head.weight)
        self.wrapped, _ = self.accelerator.prepare(entrance, optimizer)
        return cast(Optimizer, _EngineStep(self.wrapped))

    def add_gradients(self, compute: Callable[[], torch.Tensor], *, counts: bool, last: bool) -> torch.Tensor:
        loss = self.wrapped(compute)
        self.wrapped.set_gradient_accumulation_boundary(is_boundary=last)
        self.wrapped.backward(loss * (self.size if counts else 0))
        return cast(torch.Tensor, loss.detach() if counts else torch.zeros_like(loss))

    def gathered(self, model: nn.Module) -> AbstractContextManager[object]:
        if not self.sharded:
            return nullcontext()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return cast(AbstractContextManager[object], _deepspeed().zero.GatheredParameters(trained))

    def _launched(self, arguments: argparse.Namespace, defaults: Any) -> dict[str, str]:
        arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        return cast(dict[str, str], prepare_deepspeed_cmd_env(arguments)[1])


class _EngineStep:
    """The engine as the training loop sees an optimizer."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return cast(list[dict[str, Any]], self._engine.optimizer.param_groups)

    def zero_grad(self) -> None:
        """The engine does it after each step."""

    def step(self) -> None:
        self._engine.step()
        norm = self._engine.get_global_grad_norm()
        if norm is not None and not math.isfinite(float(norm)):
            raise RunFailed(Reason.nan_loss, "the gradients are not finite; the training diverged.")


def _deepspeed() -> Any:
    return importlib.import_module("deepspeed")
