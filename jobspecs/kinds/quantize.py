"""`quantize`: a language model with fewer bits per weight, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pydantic import Field, model_validator

from jobspecs.kinds.base import Section, SpecBase
from jobspecs.problems import Problem
from jobspecs.profile import DatasetProfile, empty_cells, tokens_at_most
from jobspecs.references import DatasetReference, ModelReference

#: Types of GGUF files, as llama.cpp names them.
GGUF_TYPES = (
    *("q2_k_s", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k"),
    *("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "f16", "bf16", "f32"),
)
Scheme = Literal[
    "gptq",
    "awq",
    "int4-rtn",
    "fp8",
    "nf4",
    "int8",
    "exl2",
    "gguf",
    "gguf:q2_k_s",
    "gguf:q3_k_s",
    "gguf:q3_k_m",
    "gguf:q3_k_l",
    "gguf:q4_k_s",
    "gguf:q4_k_m",
    "gguf:q5_k_s",
    "gguf:q5_k_m",
    "gguf:q6_k",
    "gguf:q4_0",
    "gguf:q4_1",
    "gguf:q5_0",
    "gguf:q5_1",
    "gguf:q8_0",
    "gguf:f16",
    "gguf:bf16",
    "gguf:f32",
]
Target = Literal["transformers", "vllm", "tgi", "llama.cpp"]
#: Rows below which nothing can be both calibrated and judged.
ROWS_MIN = 16
_GGUF_DEFAULT = "q4_k_m"


@dataclass(frozen=True)
class SchemeFacts:
    """What a scheme can do."""

    #: Engines whose file layout it can be written in; the first is the default.
    targets: tuple[Target, ...]
    #: Bits per weight to choose from; the first is the default. Empty: the scheme says it itself.
    bits: tuple[int, ...] = ()
    #: Whether weights share scales in groups whose size can be chosen.
    grouped: bool = False
    #: Whether it can be asymmetric; its own choice where the spec says nothing.
    symmetric: bool | None = None
    #: Looks at calibration texts while it quantizes.
    calibrated: bool = False
    #: Why it can't be had here.
    refused: str = ""


SCHEME_FACTS: Mapping[str, SchemeFacts] = MappingProxyType(
    {
        "gptq": SchemeFacts(("transformers", "vllm"), bits=(4, 8), grouped=True, symmetric=True, calibrated=True),
        "awq": SchemeFacts(("transformers", "vllm"), bits=(4,), grouped=True, symmetric=False, calibrated=True),
        "int4-rtn": SchemeFacts(("transformers", "vllm"), bits=(4,), grouped=True, symmetric=True),
        "fp8": SchemeFacts(("transformers", "vllm")),
        "nf4": SchemeFacts(("transformers",)),
        "int8": SchemeFacts(("transformers",)),
        "exl2": SchemeFacts(
            ("tgi",),
            refused="it is computed by exllamav2, which runs on CUDA only, and no host here has it; choose gguf",
        ),
        "gguf": SchemeFacts(("llama.cpp",)),
    }
)


class Calibration(Section):
    """Texts that the scheme looks at; rows of `dataset` that do not judge."""

    samples: int = Field(default=128, ge=1, le=4096, description="texts")
    length: int = Field(default=512, ge=32, le=8192, description="tokens of each; longer texts are cut")
    seed: int = Field(default=42, ge=0, lt=2**32)


class HeldOutTexts(Section):
    """Texts that tell what the quantization costs. No scheme sees them."""

    dataset: DatasetReference | None = Field(default=None, description="another data set with the same column")
    fraction: float = Field(default=0.25, gt=0, lt=1, description="otherwise this share of the rows, by the seed")
    seed: int = Field(default=42, ge=0, lt=2**32)
    rows: int = Field(default=32, ge=8, le=4096, description="texts at most")
    length: int = Field(default=256, ge=16, le=8192, description="tokens of each; longer texts are cut")

    @model_validator(mode="after")
    def _one_way(self) -> HeldOutTexts:
        # The default may be written out, as stored specs do.
        if self.dataset is not None and self.fraction != type(self).model_fields["fraction"].default:
            raise ValueError("fraction is about rows that are drawn, and here a data set has them: leave fraction out")
        return self


class Quantize(SpecBase):
    """Quantizes `model`, measures what it lost, and compares it in its engine with what it was made from."""

    kind: Literal["quantize"]
    model: ModelReference = Field(description="a causal language model, or an adapter, which is merged first")
    scheme: Scheme = Field(description="gguf:TYPE names the type of the file; gguf is gguf:q4_k_m")
    dataset: DatasetReference = Field(description="texts to calibrate with, and to judge by")
    text: str = Field(default="text", min_length=1, max_length=200, description="the column with the texts")
    bits: int | None = Field(default=None, description="per weight, without scales; the scheme's own when absent")
    group_size: int | None = Field(
        default=None, ge=16, le=1024, description="weights that share a scale; 128 where the scheme has groups"
    )
    symmetric: bool | None = Field(default=None, description="without zero points; the scheme's own when absent")
    target: Target | None = Field(default=None, description="the engine that reads it, which decides the layout")
    calibration: Calibration = Calibration()
    validation: HeldOutTexts = HeldOutTexts()

    @property
    def family(self) -> str:
        """The scheme without its type."""
        return self.scheme.partition(":")[0]

    @property
    def gguf_type(self) -> str:
        """Of the file, where the scheme is GGUF."""
        return self.scheme.partition(":")[2] or _GGUF_DEFAULT

    @property
    def facts(self) -> SchemeFacts:
        return SCHEME_FACTS[self.family]

    @property
    def target_engine(self) -> Target:
        return self.target or self.facts.targets[0]

    @property
    def weight_bits(self) -> int:
        """Of schemes that let one choose."""
        return self.bits or self.facts.bits[0]

    @property
    def weights_per_scale(self) -> int:
        return self.group_size or 128

    @property
    def is_symmetric(self) -> bool:
        chosen = self.facts.symmetric if self.symmetric is None else self.symmetric
        return bool(chosen)

    @model_validator(mode="after")
    def _scheme_can_do_it(self) -> Quantize:
        facts = self.facts
        if facts.refused:
            raise ValueError(f"scheme: {self.scheme} can't be had: {facts.refused}")
        if self.target is not None and self.target not in facts.targets:
            known = " or ".join(facts.targets)
            raise ValueError(f"target: {self.target} does not read {self.family} as it is written here; {known} does")
        if self.bits is not None and self.bits not in facts.bits:
            known = ", ".join(map(str, sorted(facts.bits))) or "none to choose: leave bits out"
            raise ValueError(f"bits: {self.family} has {known}")
        if self.group_size is not None and not facts.grouped:
            raise ValueError(f"group_size: {self.family} has groups of its own; leave it out")
        if self.symmetric is not None and facts.symmetric is None:
            raise ValueError(f"symmetric: {self.family} decides it itself; leave it out")
        return self

    def read_columns(self) -> list[tuple[str, str]]:
        return [("text", self.text)]

    def problems_with(self, profile: DatasetProfile) -> list[Problem]:
        """Why this spec can't work on a data set with this profile; empty when it can."""
        problems = self.absent_columns(profile)
        if profile.rows < ROWS_MIN:
            message = f"the data set has {profile.rows} rows; {ROWS_MIN} are needed, to calibrate and to judge."
            problems.append(Problem(field="dataset", message=message, remedy="Push more rows."))
        if not problems:
            problems += empty_cells("text", self.text, profile.columns[self.text])
        return [*problems, *self.problems_of_resources()]

    def batch_shape(self, profile: DatasetProfile | None) -> tuple[int, int]:
        longest = max(self.calibration.length if self.facts.calibrated else 0, self.validation.length)
        chars = profile.columns[self.text].longest_chars if profile else longest
        return 1, tokens_at_most(chars, longest)
