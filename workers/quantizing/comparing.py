"""What was quantized, before the serve-parity gate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import torch
from transformers import PreTrainedModel

from jobspecs.engines import LLAMACPP
from jobspecs.kinds.quantize import Quantize
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.parity.diagnosis import Weights
from workers.parity.gate import Candidate, Comparison, compare
from workers.parity.limits import LIMITS
from workers.parity.llamacpp import LlamaCppSide
from workers.parity.sides import EmbeddedSide, Side


def compared(
    spec: Quantize,
    source: EmbeddedSide,
    folder: Path,
    made: PreTrainedModel,
    scratch: Path,
    between: Callable[[], None],
) -> tuple[Comparison, float | None]:
    """What the gate found of the model in `folder`, and how many tokens a second it writes; None: it can't be loaded.

    `made`: the same model in this process. Raises RunFailed for what is no fault of the version.
    """
    speeds: list[float] = []

    def opened() -> Side:
        side = _opened(spec, folder, scratch, between)
        speeds.append(side.tokens_per_s())
        return side

    candidate = Candidate(
        engine=_engine(spec),
        open=opened,
        vocabulary=_vocabulary(spec, folder, made),
        weights=lambda: Weights(made, source.model.model),
    )
    comparison = compare(source, candidate, LIMITS[limits_key(spec)], between=between)
    return comparison, next(iter(speeds), None)


def limits_key(spec: Quantize) -> str:
    """The line of `LIMITS` that holds for what the spec asks for."""
    if spec.family == "gguf":
        return f"gguf:{spec.gguf_type}"
    return f"{spec.family}:{spec.weight_bits}" if spec.facts.bits else spec.family


def _engine(spec: Quantize) -> str:
    return LLAMACPP.title if spec.family == "gguf" else "the embedded engine"


def _opened(spec: Quantize, folder: Path, scratch: Path, between: Callable[[], None]) -> Side:
    threads = torch.get_num_threads()
    if spec.family == "gguf":
        return LlamaCppSide(folder, threads, scratch / "llamacpp.log", between)
    return EmbeddedSide(LanguageModel.load(folder, threads))


def _vocabulary(spec: Quantize, folder: Path, made: PreTrainedModel) -> int:
    """Rows of the input embeddings, as the file has them."""
    if spec.family != "gguf":
        return int(made.get_input_embeddings().num_embeddings)
    (file,) = folder.glob("*.gguf")
    return next(int(one.shape[1]) for one in gguf.GGUFReader(file).tensors if one.name == "token_embd.weight")
