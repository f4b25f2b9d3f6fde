"""Several processes, one per GPU, through accelerate: DDP and FSDP2. `zero` has DeepSpeed.

The model's wrapper is entered through `Entrance`, whose forward calls a function: the loss is computed from hidden
states and the LM head's weights, which a plain call of the model would not give. While the function runs, FSDP has the
weights gathered; when it returns, DDP and FSDP await the backward pass of its result.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, FullyShardedDataParallelPlugin
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env
from torch import distributed, nn
from torch.optim import Optimizer

from workers.run.context import RankPlace
from workers.training.world import World

T = TypeVar("T")

#: The longest time that a process waits for the others: while one writes a large model, all wait.
_PATIENCE = timedelta(hours=2)
#: All processes are on one host.
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


class Entrance(nn.Module):  # type: ignore[misc]
    """The model as a module whose forward is whatever function it is given."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        # Names the blocks that FSDP shards one by one.
        self._no_split_modules = sorted(set(_blocks_below(model)))

    def library_model(self) -> nn.Module:
        """Below an adapter's wrapper."""
        return cast(nn.Module, self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model)

    def forward(self, compute: Callable[[], Any]) -> Any:
        return compute()


class Ranks(World):
    """Processes that train through DDP or FSDP."""

    def __init__(self, place: RankPlace) -> None:
        self.rank, self.size, self.mode = place.rank, place.size, place.mode
        os.environ.update(self._environment(place))
        if not place.on_cpu:
            torch.cuda.set_device(place.rank)
        # A file instead of a port: nobody else can take it, and nothing listens.
        store = distributed.FileStore(str(place.meeting_file), place.size)
        distributed.init_process_group(
            "gloo" if place.on_cpu else "cuda:nccl,cpu:gloo",
            store=store,
            rank=place.rank,
            world_size=place.size,
            timeout=_PATIENCE,
        )
        handlers = [DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)]
        self.accelerator = Accelerator(cpu=place.on_cpu, kwargs_handlers=handlers)
        if place.on_cpu and self.sharded:
            self._shard_on_cpu()
        self.wrapped: Any = None

    @property
    def sharded(self) -> bool:
        return self.mode == "fsdp"

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> Optimizer:
        self.wrapped, prepared = self.accelerator.prepare(Entrance(model), optimizer)
        return cast(Optimizer, prepared.optimizer)

    def run(self, compute: Callable[[], T]) -> T:
        return cast(T, self.wrapped(compute)) if self.sharded else compute()

    def add_gradients(self, compute: Callable[[], torch.Tensor], *, counts: bool, last: bool) -> torch.Tensor:
        with nullcontext() if last else self._without_exchange():
            loss = self.wrapped(compute)
            # The exchange takes the mean over processes; the gradients of a step are a sum.
            torch.autograd.backward(loss * (self.size if counts else 0))
        return cast(torch.Tensor, loss.detach() if counts else torch.zeros_like(loss))

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    def agree(self, wish: bool) -> bool:
        flag = torch.tensor([int(wish)])
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag)

    def wait(self) -> None:
        self.agree(False)

    def gather(self, states: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        gathered: dict[str, torch.Tensor] = {}
        for name, state in states.items():
            copies = [torch.empty_like(state) for _ in range(self.size)]
            distributed.all_gather(copies, state)
            gathered |= {name if rank == 0 else f"{name}.{rank}": copy for rank, copy in enumerate(copies)}
        return gathered

    def _without_exchange(self) -> AbstractContextManager[Any]:
        """FSDP exchanges after every micro-batch: whole gradients kept between them would cost what it saves."""
        return nullcontext() if self.sharded else cast(AbstractContextManager[Any], self.wrapped.no_sync())

    def _shard_on_cpu(self) -> None:
        """accelerate turns to FSDP on accelerators only; what it then does works on CPUs too."""
        state = self.accelerator.state
        state.distributed_type, state.fsdp_plugin = DistributedType.FSDP, FullyShardedDataParallelPlugin()

    def _environment(self, place: RankPlace) -> dict[str, str]:
        """What accelerate's own launcher would set for this configuration and rank."""
        arguments = launch_command_parser().parse_args(["--config_file", str(place.accelerate_config), "-"])
        arguments, defaults, _ = _validate_launch_command(arguments)
        stated = self._launched(arguments, defaults)
        chosen = {name: value for name, value in stated.items() if name.startswith(("ACCELERATE_", "FSDP_"))}
        rank, size = str(place.rank), str(place.size)
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        return {**chosen, **ranks, **_LOOPBACK}

    def _launched(self, arguments: argparse.Namespace, defaults: Any) -> dict[str, str]:
        return cast(dict[str, str], prepare_multi_gpu_env(arguments))


def _blocks_below(model: nn.Module) -> Iterator[str]:
    """Names of the classes that the library says must not be split."""
    for module in model.modules():
        yield from getattr(module, "_no_split_modules", None) or ()
