"""What was quantized, before the serve-parity gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedModel

from jobspecs.kinds.quantize import Quantize
from workers.parity import candidates
from workers.parity.gate import Comparison, compare
from workers.parity.limits import LIMITS
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
    if spec.family == "gguf":
        candidate = candidates.llamacpp(folder, source, scratch, between, made=made)
    else:
        candidate = candidates.embedded(folder, source, made=made)

    def opened() -> Side:
        side = candidate.open()
        try:
            speeds.append(side.tokens_per_s())
        except BaseException:
            side.close()
            raise
        return side

    comparison = compare(source, replace(candidate, open=opened), LIMITS[limits_key(spec)], between=between)
    return comparison, next(iter(speeds), None)


def limits_key(spec: Quantize) -> str:
    """The line of `LIMITS` that holds for what the spec asks for."""
    if spec.family == "gguf":
        return f"gguf:{spec.gguf_type}"
    return f"{spec.family}:{spec.weight_bits}" if spec.facts.bits else spec.family
