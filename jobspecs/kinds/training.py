"""Sections that all kinds share which train: how rows are held out, and how the optimizer goes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from jobspecs.kinds.base import Section, SpecBase
from jobspecs.references import DatasetReference

#: What says which rows are drawn; means nothing where the rows are given.
_OF_DRAWN = ("fraction", "stratify", "rows_max")
#: What says which rows a section means.
_WHICH = ("fraction", "dataset", "column")


class LabelData(Section):
    """How to read the rows."""

    normalize_labels: bool = Field(
        default=False,
        description="labels that differ only in case, spaces, Unicode's composition, invisible characters or the way a "
        "number is written are one class, named as most rows write it",
    )


class GivenRows(Section):
    """Rows that do not train: those of another data set, or those that a column tells."""

    dataset: DatasetReference | None = Field(
        default=None, description="a data set with the same columns: it means all of its rows, and none of them trains"
    )
    column: str | None = Field(default=None, min_length=1, description="the column that says which rows are meant")
    values: list[str] = Field(default=[], max_length=64, description="what that column holds in these rows")

    @property
    def given(self) -> bool:
        """Whether the spec says which rows are meant."""
        return self.dataset is not None or self.column is not None

    @model_validator(mode="after")
    def _one_way_to_give_rows(self) -> Self:
        if self.dataset is not None and self.column is not None:
            raise ValueError("name a data set or a column with these rows, not both")
        if (self.column is not None) != bool(self.values):
            raise ValueError("column and values belong together: {column: split, values: [test]}")
        return self

    def meets(self, other: GivenRows) -> bool:
        """Whether both name the same rows."""
        if self.dataset is not None:
            return self.dataset == other.dataset
        return self.column is not None and self.column == other.column and bool({*self.values} & {*other.values})


class Test(GivenRows):
    """Rows that judge and do nothing else: they neither train, nor stop the training, nor choose weights."""

    fraction: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="share of the rows, drawn by the seed before those of `validation`, where none are named",
    )
    seed: int = Field(default=42, ge=0, lt=2**32)
    sealed: bool = Field(
        default=False,
        description="rows that do nothing at all, and are kept for a later judgement: those of `validation` judge",
    )

    @model_validator(mode="after")
    def _names_or_draws_rows(self) -> Self:
        if self.given and self.fraction is not None:
            raise ValueError("fraction is about rows that are drawn, and here they are given: leave fraction out")
        if not self.given and self.fraction is None:
            raise ValueError("name the rows: {dataset: NAME@VERSION} or {column: split, values: [test]}")
        return self

    @model_serializer(mode="wrap")
    def _without_what_means_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        silent = {*(() if self.fraction is not None else ("fraction", "seed")), *(() if self.sealed else ("sealed",))}
        return {name: value for name, value in document.items() if name not in silent}


class Validation(GivenRows):
    """Rows that do not train: a share drawn by chance, or rows of one's own.

    They judge the trained model and the baselines, unless `test` does: then they choose when training ends.
    """

    fraction: float = Field(
        default=0.25, ge=0, lt=1, description="share of the rows, drawn by the seed; 0, where `test` judges: none"
    )
    seed: int = Field(default=42, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _one_way_to_hold_out(self) -> Self:
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


class TrainingSpec(SpecBase):
    """What all kinds share that train: which rows do not."""

    validation: Validation = Validation()
    test: Test | None = Field(
        default=None, description="rows that judge in place of those of `validation`, which then choose when to end"
    )

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_drawn_beside_test(cls, document: Any) -> Any:
        """Writes it into the spec: rows that judge are named, and nobody asked for others."""
        test = document.get("test") if isinstance(document, dict) else None
        if test is None or (isinstance(test, dict) and test.get("sealed") is True):
            return document
        validation = document.get("validation", {})
        if not isinstance(validation, dict) or any(validation.get(name) is not None for name in _WHICH):
            return document
        return {**document, "validation": {**validation, "fraction": 0}}

    @model_validator(mode="after")
    def _some_row_judges(self) -> Self:
        validation = self.validation
        if self.judging_part == "validation" and validation.fraction == 0 and not validation.given:
            raise ValueError("validation.fraction is 0, so no row would judge: raise it, or name rows with test")
        if self.test is not None and self.test.meets(validation):
            raise ValueError("test and validation name the same rows: those that choose can't judge")
        return self

    @property
    def judging_part(self) -> Literal["validation", "test"]:
        """The section whose rows judge."""
        return "validation" if self.test is None or self.test.sealed else "test"

    @property
    def judging_rows(self) -> GivenRows:
        """That section."""
        return self.validation if self.test is None or self.test.sealed else self.test


#: `epochs: auto`: passes over the rows that train, at most; on few rows as many as give so many steps, up to a limit.
AUTO_EPOCHS, AUTO_STEPS_MIN, AUTO_EPOCHS_MAX = 4, 300, 40

#: Rows of `validation` beside `test` below which `auto` does not look at them: a loss over fewer says nothing.
CHOOSING_ROWS_MIN = 20

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

    @property
    def choosing_decides(self) -> Literal["end", "weights"] | None:
        """What rows decide that neither train nor judge: when training ends, if they are enough to say something, or
        whose weights are kept, however few they are; None: nothing."""
        return None


class EncoderTraining(Optimization):
    """What all kinds share that train encoders."""

    epochs: Literal["auto"] | Passes = Field(
        default="auto",
        description=f"passes over the rows that train. auto: at most {AUTO_EPOCHS}, or {AUTO_STEPS_MIN} steps on few "
        "rows; ends earlier when rows set aside (with `test`: those of `validation`) get no better, with the weights "
        "that were best",
    )
    max_length: int = Field(default=256, ge=8, le=8192, description="tokens per text; longer texts are cut")
    dropout: float | None = Field(default=None, ge=0, lt=1, description="the base model's own when absent")
    freeze_embeddings: bool = Field(default=False, description="keep the token embeddings of the base model: faster")

    @property
    def choosing_decides(self) -> Literal["end", "weights"] | None:
        return "end" if self.epochs == "auto" else None

    def epochs_of(self, rows: float) -> float:
        """Passes over so many rows that train; with `auto` the most of them."""
        if self.epochs != "auto":
            return self.epochs
        steps_per_epoch = max(1, -(-int(rows) // self.batch_size))
        return max(AUTO_EPOCHS, min(AUTO_EPOCHS_MAX, AUTO_STEPS_MIN / steps_per_epoch))
