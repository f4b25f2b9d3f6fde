"""What was made of a model, as the gate looks at it: by the engine that will serve it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from jobspecs.engines import EMBEDDED, LLAMACPP, TGI
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.local_models.base_model import invalid_model, read_json
from workers.local_models.gguf_model import load_weights
from workers.parity.diagnosis import Weights
from workers.parity.gate import Candidate
from workers.parity.llamacpp import LlamaCppSide
from workers.parity.sides import EmbeddedSide
from workers.parity.transformers4 import as_read_by_4

#: Ends of the names of input embeddings in safetensors.
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")

#: Matrices by name: of the model that an adapter changed.
Base = Mapping[str, torch.Tensor]


def embedded(
    folder: Path, source: EmbeddedSide, *, made: PreTrainedModel | None = None, base: Base | None = None
) -> Candidate:
    """A folder with safetensors, in this process. `made`: the same model, where it is loaded already.

    `base`: of the source's own base, where the source is an adapter's change of it.
    """
    opened = _Opened(lambda: EmbeddedSide(LanguageModel.load(folder, torch.get_num_threads())))
    return Candidate(
        engine=EMBEDDED.title,
        open=opened,
        vocabulary=embedding_rows(folder),
        weights=lambda: Weights(made if made is not None else opened.side.model.model, source.model.model, base),
    )


def tgi(folder: Path, source: EmbeddedSide, scratch: Path, *, base: Base | None = None) -> Candidate:
    """A folder with safetensors as text-generation-inference would read it, which is not here; in this process."""
    opened = _Opened(
        lambda: EmbeddedSide(LanguageModel.load(as_read_by_4(folder, scratch / "tgi"), torch.get_num_threads()))
    )
    return Candidate(
        engine=f"{TGI.title} (its loader, imitated)",
        open=opened,
        vocabulary=embedding_rows(folder),
        weights=lambda: Weights(opened.side.model.model, source.model.model, base),
    )


def llamacpp(
    folder: Path,
    source: EmbeddedSide,
    scratch: Path,
    between: Callable[[], None] = lambda: None,
    *,
    made: PreTrainedModel | None = None,
    base: Base | None = None,
) -> Candidate:
    """A folder with a GGUF, in the real llama.cpp. `made`: the same model dequantised, where it is loaded already."""
    (file,) = folder.glob("*.gguf")
    return Candidate(
        engine=LLAMACPP.title,
        open=lambda: LlamaCppSide(folder, torch.get_num_threads(), scratch / "llamacpp.log", between),
        vocabulary=embedding_rows(folder),
        weights=lambda: Weights(made if made is not None else load_weights(file), source.model.model, base),
    )


def embedding_rows(folder: Path) -> int:
    """Rows of the input embeddings in the files. Raises RunFailed(invalid_model) where there are none."""
    for file in folder.glob("*.gguf"):
        rows = [int(one.shape[1]) for one in gguf.GGUFReader(file).tensors if one.name == "token_embd.weight"]
        if rows:
            return rows[0]
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118  it is no mapping
                if name.endswith(_EMBEDDINGS):
                    return int(opened.get_slice(name).get_shape()[0])
    stated = read_json(folder / "config.json", required=True).get("vocab_size")
    if not isinstance(stated, int):
        raise invalid_model("there are no input embeddings in its files.")
    return stated


class _Opened:
    """Opens a side once, and keeps it for whoever has to find out what is wrong."""

    def __init__(self, load: Callable[[], EmbeddedSide]) -> None:
        self._load = load
        self._side: EmbeddedSide | None = None

    def __call__(self) -> EmbeddedSide:
        self._side = self._load()
        return self._side

    @property
    def side(self) -> EmbeddedSide:
        return self._side if self._side is not None else self()
