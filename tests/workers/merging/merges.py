"""Models to merge, and a merge as a job runs it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from jobspecs.events import ChildEvent
from jobspecs.kinds.merge import Merge
from jobspecs.manifest import Manifest, ModelOrigin
from jobspecs.registry import parse_spec
from workers.run.context import RunContext
from workers.runners.registry import RUNNERS

ROOMY = {"resources": {"max_runtime": "1h"}}


def merged(models: Mapping[str, Path], output: Path, /, **fields: Any) -> Manifest:
    """`models`: reference -> folder; `fields` of the spec."""
    spec = parse_spec({"kind": "merge", "name": "mixed", **copy.deepcopy(fields)})
    assert isinstance(spec, Merge)
    output.mkdir()
    events: list[ChildEvent] = []
    roles = spec.model_references()
    context = RunContext(
        spec=spec,
        dataset_path=None,
        model_dir=None,
        output_dir=output,
        checkpoints_dir=output.parent / "checkpoints",
        resume_from=None,
        emit=events.append,
        stop_requested=lambda: False,
        models={role: models[text] for role, text in roles.items()},
        origins={role: ModelOrigin(reference=f"ada/{text}@1", digest="d" * 64) for role, text in roles.items()},
    )
    manifest = RUNNERS["merge"](context)
    assert {event.stage for event in events if event.type == "stage"} == {"compare", "merge", "validate", "save"}
    return manifest


def child_of(base: Path, folder: Path, seed: int, scale: float = 0.02, dtype: torch.dtype | None = None) -> Path:
    """A copy with weights that are a little different, as if it had been trained on."""
    generator = torch.Generator().manual_seed(seed)
    folder.mkdir()
    for path in base.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    tensors = {
        name: tensor + scale * torch.randn(tensor.shape, generator=generator)
        for name, tensor in load_file(base / "model.safetensors").items()
    }
    change(folder, {name: tensor.to(dtype or tensor.dtype) for name, tensor in tensors.items()})
    return folder


def change(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        found |= load_file(path)
    return found
