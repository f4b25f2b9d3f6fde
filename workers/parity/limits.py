"""How far a version may be from its source before the gate calls it unverified. Data: one line per scheme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Limits:
    """Over all positions of the gate's texts. KL in nats per token at most; agreement of greedy tokens at least."""

    kl_divergence: float
    agreement: float


#: What must lose nothing: a merged adapter, a converted format. What is left is the rounding of two engines: torch
#: computes in fp32, llama.cpp keeps keys and values in fp16.
LOSSLESS = Limits(kl_divergence=1e-3, agreement=0.97)
_EIGHT_BITS = Limits(kl_divergence=0.05, agreement=0.90)
_SIX_BITS = Limits(kl_divergence=0.10, agreement=0.80)
_FIVE_BITS = Limits(kl_divergence=0.20, agreement=0.70)
_FOUR_BITS = Limits(kl_divergence=0.60, agreement=0.50)
_THREE_BITS = Limits(kl_divergence=1.50, agreement=0.40)
_TWO_BITS = Limits(kl_divergence=4.00, agreement=0.15)

#: Scheme, or scheme and bits -> limits. Bounds are judgement, and wide: small models lose more than large ones, and a
#: fault that they are there to catch is far outside. SmolLM2-135M: KL 0.0013 and 97 % at q8_0, 0.049 and 87 % at
#: q4_k_m; a model of two layers with random weights: 57 % at int4-rtn, 85 % at fp8.
LIMITS: Mapping[str, Limits] = MappingProxyType(
    {
        "gguf:f32": LOSSLESS,
        "gguf:f16": LOSSLESS,
        "gguf:bf16": Limits(kl_divergence=0.01, agreement=0.95),
        "gguf:q8_0": _EIGHT_BITS,
        "gguf:q6_k": _SIX_BITS,
        "gguf:q5_k_m": _FIVE_BITS,
        "gguf:q5_k_s": _FIVE_BITS,
        "gguf:q5_0": _FIVE_BITS,
        "gguf:q5_1": _FIVE_BITS,
        "gguf:q4_k_m": _FOUR_BITS,
        "gguf:q4_k_s": _FOUR_BITS,
        "gguf:q4_0": _FOUR_BITS,
        "gguf:q4_1": _FOUR_BITS,
        "gguf:q3_k_l": _THREE_BITS,
        "gguf:q3_k_m": _THREE_BITS,
        "gguf:q3_k_s": _THREE_BITS,
        "gguf:q2_k_s": _TWO_BITS,
        "gptq:4": _FOUR_BITS,
        "gptq:8": _EIGHT_BITS,
        "awq:4": _FOUR_BITS,
        "int4-rtn:4": _FOUR_BITS,
        "fp8": _SIX_BITS,
        "nf4": _FOUR_BITS,
        "int8": _SIX_BITS,
    }
)
