"""`import-model`: bring a model into the form that everything here reads: safetensors, a tokenizer, a known task."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from jobspecs.kinds.base import SpecBase
from jobspecs.references import ModelReference


class ImportModel(SpecBase):
    """Converts the GGUF of `model` to safetensors; a model that is safetensors already is registered as it is."""

    READS_GGUF: ClassVar[bool] = True

    kind: Literal["import-model"]
    model: ModelReference = Field(description="a registered model with a GGUF file, or hub:org/name")
    file: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\.gguf$",
        description="the GGUF to take when there are several",
    )
    dtype: Literal["fp32", "bf16", "fp16"] = Field(default="fp32", description="of the converted weights")

    def dataset_reference(self) -> str | None:
        return None
