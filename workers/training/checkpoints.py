"""Checkpoints: everything a run needs to go on as if it had never stopped.

A folder `step-00000123` holds `model.safetensors` (what is trained), `optimizer.safetensors`, `rng.safetensors`,
`state.json`, and `best.safetensors` where an evaluation keeps the best weights; its manifest is written last, so a
folder without one is not a checkpoint. Nothing is pickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import AdamW, Optimizer

from jobspecs.manifest import MANIFEST_NAME, Manifest, describe_files, read_manifest, write_manifest
from workers.training.world import ALONE, World, assign, like, on_cpu

#: Complete checkpoints that stay on disk; the second is a reserve while the newest is being sent.
KEPT = 2
_FILES = frozenset({"model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json"})
_BEST = "best.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class UnusableCheckpoint(Exception):
    """The folder is not a complete, unchanged checkpoint of this run; `str` says what is wrong."""


@dataclass(frozen=True)
class TrainingState:
    """What a checkpoint knows beside tensors."""

    #: Optimizer steps done.
    step: int
    #: Moving average of the loss in nats.
    loss: float
    #: sha256 over data and hyperparameters: a checkpoint continues only the run that wrote it.
    fingerprint: str
    #: Versions, device and kernels: where they differ, the last bits of the weights may too.
    environment: dict[str, str]
    #: The lowest figure of an evaluation so far, its step, and how many have been worse since.
    best_value: float | None = None
    best_step: int | None = None
    #: The moving average at that step.
    loss_at_best: float | None = None
    worse_evaluations: int = 0
    stopped_early: bool = False
    #: The moving average after three quarters of all steps.
    loss_at_three_quarters: float | None = None

    def with_(self, **changes: Any) -> TrainingState:
        """The same state with these fields changed."""
        return replace(self, **changes)


def save_checkpoint(
    root: Path,
    model: nn.Module,
    optimizer: Optimizer,
    state: TrainingState,
    best: Mapping[str, torch.Tensor] | None = None,
    world: World = ALONE,
) -> Path:
    """Writes `step-…` below `root`, manifest last, and drops all but the newest KEPT. Returns its folder.

    Every process of a world must call it; the main one writes, and all return when it has.
    """
    directory = root / f"step-{state.step:08d}"
    tensors = {
        "model.safetensors": on_cpu(trained_tensors(model)),
        "optimizer.safetensors": on_cpu(_moments(model, optimizer)),
        "rng.safetensors": world.gather(_generators()),
    }
    if best is not None:
        tensors[_BEST] = on_cpu(best)
    if world.is_main:
        _write(directory, tensors, state)
        _prune(root)
    world.wait()
    return directory


def _write(directory: Path, tensors: Mapping[str, dict[str, torch.Tensor]], state: TrainingState) -> None:
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    for name, content in tensors.items():
        save_file(content, directory / name)
    (directory / "state.json").write_text(json.dumps(vars(state), indent=1), encoding="utf-8")
    write_manifest(
        directory, Manifest(artifact="checkpoint", files=describe_files(directory), versions=state.environment)
    )


def read_state(directory: Path, fingerprint: str) -> TrainingState:
    """Verifies every file against the manifest and returns the state. Raises UnusableCheckpoint."""
    try:
        manifest = read_manifest(directory)
        found = describe_files(directory)
    except (OSError, ValueError) as error:
        raise UnusableCheckpoint(f"{directory.name} has no usable manifest: {type(error).__name__}") from error
    if manifest.artifact != "checkpoint" or {file.path for file in manifest.files} - {_BEST} != _FILES:
        raise UnusableCheckpoint(f"{directory.name} is not a checkpoint of this kind of run")
    for expected in manifest.files:
        if expected not in found:
            raise UnusableCheckpoint(f"{directory.name}/{expected.path} does not have its sha256")
    try:
        state = TrainingState(**json.loads((directory / "state.json").read_bytes()))
    except (ValueError, TypeError) as error:
        raise UnusableCheckpoint(f"{directory.name}/state.json was written by another version") from error
    if state.fingerprint != fingerprint:
        raise UnusableCheckpoint(f"{directory.name} belongs to a run with other data or hyperparameters")
    return state


def restore(
    directory: Path, model: nn.Module, optimizer: Optimizer, world: World = ALONE
) -> dict[str, torch.Tensor] | None:
    """Sets weights, optimizer and generators as they were; returns the best weights kept so far, if any.

    Call `read_state` first. Raises UnusableCheckpoint, and has changed nothing then.
    """
    try:
        weights, moments, generators = (
            load_file(directory / f"{name}.safetensors") for name in ("model", "optimizer", "rng")
        )
        best = load_file(directory / _BEST) if (directory / _BEST).is_file() else None
    except SafetensorError as error:
        raise UnusableCheckpoint(f"{directory.name} holds no tensors: {error}") from error
    trained = trained_tensors(model)
    names = _names_in_optimizer_order(model, optimizer)
    _check_fit(f"{directory.name}/model.safetensors", weights, _shapes(trained))
    if best is not None:
        _check_fit(f"{directory.name}/{_BEST}", best, _shapes(trained))
    _check_moments(directory, moments, model, optimizer, names)
    own, shape = world.own("cpu"), torch.get_rng_state().shape
    _check_fit(f"{directory.name}/rng.safetensors", {own: generators.get(own)}, {own: shape})
    assign(trained, weights)
    if moments:
        packed = optimizer.state_dict()
        packed["state"] = _unpacked(moments, names, dict(model.named_parameters()))
        optimizer.load_state_dict(packed)
    torch.set_rng_state(generators[own].clone())
    if torch.cuda.is_available() and world.own("cuda") in generators:
        torch.cuda.set_rng_state(generators[world.own("cuda")].clone())
    return best


def restore_best(model: nn.Module, best: Mapping[str, torch.Tensor]) -> None:
    """Sets the trained tensors to the weights that an evaluation found best."""
    assign(trained_tensors(model), best)


def trained_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Trainable parameters and persistent buffers; what is frozen comes from the base model again."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    shared = set(dict(model.named_parameters()))
    # Quantized layers add to their state dict what is neither: how to unpack frozen weights.
    buffers = set(dict(model.named_buffers()))
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name in buffers or (name in shared and name not in frozen)
    }


def _moments(model: nn.Module, optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """`parameter/moment` -> tensor. Plain integers, as 8-bit optimizers count their steps, become scalars of int64."""
    states = optimizer.state_dict()["state"]
    names = _names_in_optimizer_order(model, optimizer)
    return {
        f"{name}/{moment}": value if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=torch.int64)
        for index, name in enumerate(names)
        for moment, value in states.get(index, {}).items()
    }


def _unpacked(
    moments: Mapping[str, torch.Tensor], names: Sequence[str], parameters: Mapping[str, torch.Tensor]
) -> dict[int, dict[str, Any]]:
    """The reverse of `_moments`, as `load_state_dict` wants it: by position of the parameter."""
    states: dict[int, dict[str, Any]] = {}
    positions = {name: index for index, name in enumerate(names)}
    for key, tensor in moments.items():
        name, _, moment = key.rpartition("/")
        counts = tensor.dtype is torch.int64 and tensor.dim() == 0
        value = int(tensor) if counts else like(parameters[name], tensor).clone()
        states.setdefault(positions[name], {})[moment] = value
    return states


def _check_moments(
    directory: Path, moments: Mapping[str, torch.Tensor], model: nn.Module, optimizer: Optimizer, names: Sequence[str]
) -> None:
    what = f"{directory.name}/optimizer.safetensors"
    if moments and isinstance(optimizer, AdamW):
        _check_fit(what, moments, _moment_shapes(model, names))
    elif not {key.rpartition("/")[0] for key in moments} <= set(names):
        raise UnusableCheckpoint(f"{what} does not fit the model")


def _names_in_optimizer_order(model: nn.Module, optimizer: Optimizer) -> list[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _generators() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _moment_shapes(model: nn.Module, names: Sequence[str]) -> dict[str, torch.Size]:
    """Of AdamW: a scalar count of steps, and two moments of the parameter's own shape."""
    shapes = _shapes(dict(model.named_parameters()))
    return {
        f"{name}/{moment}": torch.Size() if moment == "step" else shapes[name] for name in names for moment in _MOMENTS
    }


def _check_fit(what: str, found: Mapping[str, torch.Tensor | None], expected: Mapping[str, torch.Size]) -> None:
    if {name: None if tensor is None else tensor.shape for name, tensor in found.items()} != expected:
        raise UnusableCheckpoint(f"{what} does not fit the model")


def _prune(root: Path) -> None:
    complete = sorted(path for path in root.glob("step-*") if (path / MANIFEST_NAME).is_file())
    for path in complete[:-KEPT]:
        # Without its manifest first: what is half deleted must not look complete.
        (path / MANIFEST_NAME).unlink()
        shutil.rmtree(path)
