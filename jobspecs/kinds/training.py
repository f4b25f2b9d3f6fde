"""Sections that all kinds share which train: how rows are held out, and how the optimizer goes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from jobspecs.kinds.base import Section
from jobspecs.references import DatasetReference

#: What says which rows are drawn; means nothing where the rows are given.
_OF_DRAWN = ("fraction", "stratify", "rows_max")


class LabelData(Section):
    """How to read the rows."""

    normalize_labels: bool = Field(
        default=False,
        description="labels that differ only in case, spaces, Unicode's composition, invisible characters or the way a "
        "number is written are one class, named as most rows write it",
    )


class Validation(Section):
    """The rows that judge the trained model and the baselines: a share drawn by chance, or rows of one's own."""

    fraction: float = Field(default=0.25, gt=0, lt=1, description="share of the rows, drawn by the seed")
    seed: int = Field(default=42, ge=0, lt=2**32)
    dataset: DatasetReference | None = Field(
        default=None, description="a data set with the same columns: all of its rows judge, and none of them trains"
    )
    column: str | None = Field(
        default=None, min_length=1, description="the column that says which rows judge; all others train"
    )
    values: list[str] = Field(default=[], max_length=64, description="what that column holds in rows that judge")

    @property
    def given(self) -> bool:
        """Whether the spec says which rows judge; otherwise they are drawn."""
        return self.dataset is not None or self.column is not None

    @model_validator(mode="after")
    def _one_way_to_hold_out(self) -> Self:
        if self.dataset is not None and self.column is not None:
            raise ValueError("name a data set or a column with the rows that judge, not both")
        if (self.column is not None) != bool(self.values):
            raise ValueError("column and values belong together: {column: split, values: [test]}")
        drawn = [name for name in _OF_DRAWN if name in self.model_fields_set]
        if self.given and drawn:
            raise ValueError(f"{drawn[0]} is about rows that are drawn, and here they are given: leave {drawn[0]} out")
        return self

    @model_serializer(mode="wrap")
    def _without_what_means_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        return {name: value for name, value in document.items() if not (self.given and name in _OF_DRAWN)}


class PairValidation(Validation):
    """Held-out rows of two texts and more."""

    by: Literal["first", "both"] = Field(
        default="first",
        description="first: rows with the same first text (query, anchor) are on one side. both: so is every other "
        "text; rows that would join the two sides are left out, counted and told",
    )


#: `epochs: auto`: passes over the rows that train, at most; on few rows as many as give so many steps, up to a limit.
AUTO_EPOCHS, AUTO_STEPS_MIN, AUTO_EPOCHS_MAX = 4, 300, 40

Passes = Annotated[float, Field(gt=0, le=1000)]


class Optimization(Section):
    """AdamW and its learning rate over time. A kind changes the defaults and adds what is its own."""

    batch_size: int = Field(default=32, ge=1, le=65536)
    learning_rate: float = Field(default=2.0e-5, gt=0)
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    warmup_fraction: float = Field(
        default=0.1, ge=0, le=1, description="share of all steps with a rising learning rate"
    )
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    max_grad_norm: float = Field(default=1.0, gt=0)
    seed: int = Field(default=42, ge=0, lt=2**32)
    checkpoint_every_steps: int | None = Field(default=None, ge=1, description="about one a minute when absent")


class EncoderTraining(Optimization):
    """What all kinds share that train encoders."""

    epochs: Literal["auto"] | Passes = Field(
        default="auto",
        description=f"passes over the rows that train. auto: at most {AUTO_EPOCHS}, or {AUTO_STEPS_MIN} steps on few "
        "rows; ends earlier when rows set aside get no better, with the weights that were best",
    )
    max_length: int = Field(default=256, ge=8, le=8192, description="tokens per text; longer texts are cut")
    dropout: float | None = Field(default=None, ge=0, lt=1, description="the base model's own when absent")
    freeze_embeddings: bool = Field(default=False, description="keep the token embeddings of the base model: faster")

    def epochs_of(self, rows: float) -> float:
        """Passes over so many rows that train; with `auto` the most of them."""
        if self.epochs != "auto":
            return self.epochs
        steps_per_epoch = max(1, -(-int(rows) // self.batch_size))
        return max(AUTO_EPOCHS, min(AUTO_EPOCHS_MAX, AUTO_STEPS_MIN / steps_per_epoch))
