"""How texts are found that look like an answer and are none."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from jobspecs.kinds.base import Section
from jobspecs.references import ModelReference

#: The role of the embedder that finds them, where a spec names one.
NEGATIVES_ROLE = "negatives"


class HardNegatives(Section):
    """Texts that an embedder ranks high for a query and that are no answer to it, mined before training.

    The margins keep out what is probably an unlabelled answer (NV-Retriever, arXiv:2407.15831): a negative's cosine is
    at most `positive - absolute_margin` and at most `positive * (1 - relative_margin)`. A kind changes the defaults.
    """

    num_negatives: int = Field(default=1, ge=1, le=100, description="for each positive")
    model: ModelReference | None = Field(default=None, description="the embedder that ranks, where it is another")
    range_min: int = Field(default=0, ge=0, le=10_000, description="so many of the best candidates are left out")
    range_max: int = Field(default=50, ge=1, le=10_000, description="candidates beyond this rank are left out")
    relative_margin: float | None = Field(default=0.05, ge=0, lt=1)
    absolute_margin: float | None = Field(default=None, ge=0, le=2)
    max_score: float | None = Field(default=None, ge=-1, le=1)
    sampling: Literal["top", "random"] = Field(default="top", description="which of the candidates left are taken")

    @model_validator(mode="after")
    def _ranks_are_left(self) -> Self:
        if self.range_min >= self.range_max:
            raise ValueError("range_min leaves out every candidate up to range_max: lower it, or raise range_max")
        return self
