"""The model that is quantized, as a folder with safetensors in full precision: adapters are merged into it first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from jobspecs.kinds.base import ADAPTER_BASE_SUFFIX, BASE_ROLE
from workers.local_models.adapters import is_adapter, load_adapter, merged
from workers.local_models.base_model import invalid_model, load_causal_lm, load_tokenizer, read_json
from workers.local_models.gguf_model import write_language_model
from workers.run.context import RunContext

#: Of tensors that are looked at together.
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Source:
    """`bytes`: of its weights on disk."""

    folder: Path
    merged: bool

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))


def prepare_source(context: RunContext, scratch: Path) -> Source:
    """The job's own model, or what its adapter makes of the base, in `scratch`.

    Raises RunFailed(invalid_model): foreign code, pickles, quantized already, or values that are not finite.
    """
    folder = context.base
    if is_adapter(folder):
        base = context.models.get(BASE_ROLE + ADAPTER_BASE_SUFFIX)
        if base is None:
            raise invalid_model("it is an adapter, and its base was not given to the job.")
        _check_unquantized(base)
        tokenizer = load_tokenizer(folder if (folder / "tokenizer_config.json").is_file() else base)
        write_language_model(scratch, merged(load_adapter(load_causal_lm(base).model, folder)), tokenizer)
        source = Source(scratch, merged=True)
    else:
        _check_unquantized(folder)
        source = Source(folder, merged=False)
    check_finite(source.folder)
    return source


def check_finite(folder: Path) -> None:
    """Raises RunFailed(invalid_model) naming the first tensor that holds NaN or infinity."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118  it is no mapping
                tensor = file.get_tensor(name).flatten()
                if tensor.is_floating_point() and not all(
                    bool(torch.isfinite(part).all()) for part in tensor.split(_CHUNK)
                ):
                    raise invalid_model(f"{name} holds values that are not finite: nothing can be rounded to them.")


def _check_unquantized(folder: Path) -> None:
    if read_json(folder / "config.json", required=True).get("quantization_config") is not None:
        raise invalid_model("its weights are quantized already. Choose the model that they were made from.")
