"""The processes that train one model together, and the single one that usually does.

A step's rows are shared out; the gradients that reach the optimizer are those of the whole step, whatever the number of
processes. What every process must do alike (stop, write a checkpoint, judge) is agreed on here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar, cast

import numpy as np
import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from workers.local_models.tokens import Int64s

T = TypeVar("T")


class World:
    """One process on its own. `workers.training.distributed` has the other kind."""

    rank = 0
    size = 1
    #: Whether checkpoints can be written and read.
    resumable = True

    @property
    def is_main(self) -> bool:
        """Whether this process speaks for all: it writes files and tells of progress."""
        return self.rank == 0

    @property
    def sharded(self) -> bool:
        """Whether a process holds only its part of the weights between two passes."""
        return False

    def prepare(self, model: nn.Module, optimizer: Optimizer) -> Optimizer:
        """Spreads model (in place) and optimizer over the processes; returns the optimizer to go on with."""
        return optimizer

    def shares(self, lengths: Int64s, rows: Int64s) -> list[Int64s]:
        """Cuts the rows of a step into one share per process, of about as many tokens each. Alike everywhere."""
        if self.size == 1:
            return [rows]
        order = rows[np.argsort(lengths[rows], kind="stable")]
        return [order[rank :: self.size] for rank in range(self.size)]

    def dealt(self, parts: int) -> Iterator[tuple[int, bool]]:
        """Which of `parts` pieces of work this process does, and whether they count.

        Every process does as many: one with fewer repeats the last piece in vain, as sharded weights are only there
        when all compute.
        """
        for number in range(self.rank, -(-parts // self.size) * self.size, self.size):
            yield min(number, parts - 1), number < parts

    def without_gradients(self) -> AbstractContextManager[object]:
        """For judging and generation. Weights that FSDP gathers in inference mode could not be trained afterwards."""
        mode = torch.no_grad() if self.sharded else torch.inference_mode()
        return cast(AbstractContextManager[object], mode)

    def run(self, compute: Callable[[], T]) -> T:
        """Calls `compute`, in which the model may be used without gradients."""
        return compute()

    def add_gradients(self, compute: Callable[[], torch.Tensor], *, counts: bool, last: bool) -> torch.Tensor:
        """Adds the gradients of the loss that `compute` returns, if it counts; returns the loss, detached.

        `last`: no more gradients come before the optimizer's step.
        """
        loss = compute()
        torch.autograd.backward(loss)
        return loss.detach()

    def gathered(self, model: nn.Module) -> AbstractContextManager[object]:
        """In it the trained parameters can be read, for an engine that hides them."""
        return nullcontext()

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over the processes, the same bits in each."""
        return tensor

    def agree(self, wish: bool) -> bool:
        """Whether any process wishes it."""
        return wish

    def wait(self) -> None:
        """Until every process is here."""

    def gather(self, states: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The tensors of every process, those of rank r > 0 under `name.r`. Shapes and types are alike everywhere."""
        return dict(states)

    def own(self, name: str) -> str:
        """The name under which `gather` keeps this process's tensor."""
        return name if self.rank == 0 else f"{name}.{self.rank}"


#: What trains on one GPU or a CPU.
ALONE = World()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself, or the one of which this process holds a shard. All processes must ask for it."""
    return cast(torch.Tensor, tensor.full_tensor()) if isinstance(tensor, DTensor) else tensor


def on_cpu(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Whole copies, one tensor after the other, so that at most one is whole on the GPU."""
    return {name: whole(tensor.detach()).cpu().contiguous() for name, tensor in tensors.items()}


def like(target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """`source`, which is whole, or this process's shard of it where `target` is sharded."""
    if not isinstance(target, DTensor) or source.shape != target.shape:
        return source
    moved = source.to(target.device)
    # Every process has read the same tensor: each keeps its part, and nothing is sent.
    return cast(torch.Tensor, distribute_tensor(moved, target.device_mesh, target.placements, src_data_rank=None))


def assign(targets: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> None:
    """Sets the tensors to whole values of the same names."""
    with torch.no_grad():
        for name, value in values.items():
            targets[name].copy_(like(targets[name], value))


def shard_of(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of it."""
    return cast(torch.Tensor, tensor.to_local()) if isinstance(tensor, DTensor) else tensor


def idle_part(lengths: Int64s, rows: Int64s) -> Int64s:
    """The cheapest of the rows: what a process computes that has nothing left to do."""
    return rows[[int(np.argmin(lengths[rows]))]]


def equal_parts(shares: Sequence[Sequence[Int64s]], rank: int, idle: Int64s) -> Iterator[tuple[Int64s, bool, bool]]:
    """The micro-batches of one process: (rows, whether they count, whether it is the last).

    `shares` are those of all; whoever has fewer goes on with `idle`.
    """
    own, most = shares[rank], max(map(len, shares))
    for number in range(most):
        counts = number < len(own)
        yield (own[number] if counts else idle), counts, number == most - 1
