"""`train-reranker`: fine-tune an encoder as a cross-encoder, which reads query and passage together and scores them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from jobspecs.kinds.base import Section, SpecBase
from jobspecs.kinds.training import Optimization, Validation
from jobspecs.problems import Problem
from jobspecs.profile import ColumnProfile, DatasetProfile
from jobspecs.references import DatasetReference, ModelReference

#: `bce` and `mse` look at one pair at a time, the others at all passages of a query.
Loss = Literal["auto", "bce", "mse", "ranknet", "listnet", "listmle", "lambdaloss"]
LISTWISE = frozenset({"ranknet", "listnet", "listmle", "lambdaloss"})
#: One query to train on and one to judge by; with fewer than this the figures mean nothing.
ROWS_MIN = 8


class RerankerValidation(Validation):
    """Queries held out: all rows of a query are on one side."""

    fraction: float = Field(default=0.2, gt=0, lt=1, description="share of the queries")


class RerankerTraining(Optimization):
    """Hyperparameters. A batch is counted in pairs of query and passage."""

    max_length: int = Field(default=256, ge=8, le=8192, description="tokens per pair; the longer text is cut first")
    dropout: float | None = Field(default=None, ge=0, lt=1, description="the base model's own when absent")
    freeze_embeddings: bool = Field(default=False, description="keep the token embeddings of the base model: faster")


class HardNegatives(Section):
    """Passages that an embedder ranks high for a query and that are no answer, mined before training.

    The margins keep out what is probably an unlabelled answer (NV-Retriever, arXiv:2407.15831): a negative's cosine is
    at most `positive - absolute_margin` and at most `positive * (1 - relative_margin)`.
    """

    num_negatives: int = Field(default=4, ge=1, le=100, description="for each positive")
    model: ModelReference | None = Field(default=None, description="the embedder that ranks; bi_encoder when absent")
    range_min: int = Field(default=0, ge=0, le=10_000, description="so many of the best candidates are left out")
    range_max: int = Field(default=50, ge=1, le=10_000, description="candidates beyond this rank are left out")
    relative_margin: float | None = Field(default=0.05, ge=0, lt=1)
    absolute_margin: float | None = Field(default=None, ge=0, le=2)
    max_score: float | None = Field(default=None, ge=-1, le=1)
    sampling: Literal["top", "random"] = Field(default="top", description="which of the candidates left are taken")


class TrainReranker(SpecBase):
    """Fine-tunes `model` on rows (query, passage, label) or (query, positive[, negative])."""

    kind: Literal["train-reranker"]
    model: ModelReference = Field(description="the encoder or cross-encoder to start from")
    dataset: DatasetReference
    query: str = Field(default="query", min_length=1, description="the column with the query, or the first sentence")
    passage: str | None = Field(default=None, min_length=1, description="the column with the passage, or the second")
    label: str | None = Field(default=None, min_length=1, description="the column with the label or score of the pair")
    positive: str | None = Field(default=None, min_length=1, description="the column with a passage that answers")
    negative: str | None = Field(default=None, min_length=1, description="the column with a passage that does not")
    score_range: tuple[float, float] = Field(
        default=(0.0, 1.0), description="least and greatest label; they become 0 and 1"
    )
    loss: Loss = Field(default="auto", description="bce when absent: right for both binary and graded labels")
    hard_negatives: HardNegatives | None = Field(default=None, description="add mined negatives to the positives")
    bi_encoder: ModelReference | None = Field(
        default=None, description="the embedder whose order is to be beaten; the base model, mean-pooled, when absent"
    )
    rows: int | None = Field(default=None, ge=ROWS_MIN, description="take whole queries until there are this many rows")
    validation: RerankerValidation = RerankerValidation()
    training: RerankerTraining = RerankerTraining()

    @model_validator(mode="after")
    def _check_columns(self) -> TrainReranker:
        labelled = self.passage is not None or self.label is not None
        if labelled == (self.positive is not None):
            raise ValueError("name passage and label, or positive and perhaps negative: one of the two forms")
        if labelled and (self.passage is None or self.label is None):
            raise ValueError("passage and label belong together: name both columns")
        if self.negative is not None and self.positive is None:
            raise ValueError("negative needs positive: name both columns, or passage and label")
        if self.score_range[0] >= self.score_range[1]:
            raise ValueError("score_range goes from the least label to the greatest, such as [0, 5]")
        if len(set(self.columns.values())) < len(self.columns):
            raise ValueError("each of query, passage, label, positive and negative is a column of its own")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """Field -> column, for the fields that are set."""
        fields = ("query", "passage", "label", "positive", "negative")
        return {field: getattr(self, field) for field in fields if getattr(self, field) is not None}

    @property
    def mines_negatives(self) -> bool:
        """Whether negatives are mined: when asked to, and when the data hold positives alone."""
        return self.hard_negatives is not None or (self.positive is not None and self.negative is None)

    def dataset_reference(self) -> str | None:
        return self.dataset

    def model_references(self) -> dict[str, str]:
        """Role -> reference: the base, and the embedders that find negatives and that are to be beaten."""
        roles = {"model": self.model, "bi_encoder": self.bi_encoder}
        if self.hard_negatives is not None:
            roles["negatives"] = self.hard_negatives.model
        return {role: reference for role, reference in roles.items() if reference is not None}

    def problems_with(self, profile: DatasetProfile) -> list[Problem]:
        """Why this spec can't work on a data set with this profile; empty when it can."""
        known = ", ".join(profile.columns)
        problems = [
            Problem(field=field, message=f"the data set has no column {column!r}.", remedy=f"Its columns are: {known}.")
            for field, column in self.columns.items()
            if column not in profile.columns
        ]
        if problems:
            return problems
        if profile.rows < ROWS_MIN:
            return [
                Problem(
                    field="dataset",
                    message=f"the data set has {profile.rows} rows; training and judging need {ROWS_MIN}.",
                    remedy="Push more rows.",
                )
            ]
        problems = [
            problem
            for field, column in self.columns.items()
            for problem in _problems_of_cells(field, column, profile.columns[column])
        ]
        return problems or self._problems_of_label(profile)

    def _problems_of_label(self, profile: DatasetProfile) -> list[Problem]:
        if self.label is None:
            return []
        column = profile.columns[self.label]
        if column.kind not in ("number", "boolean"):
            return [
                Problem(
                    field="label",
                    message=f"column {self.label!r} does not hold numbers.",
                    remedy="Use 0 and 1, a score from 0 to 1, or set score_range.",
                )
            ]
        if column.distinct < 2:
            return [
                Problem(
                    field="label",
                    message=f"column {self.label!r} holds one value only: there is nothing to tell apart.",
                    remedy="Add pairs with another label, or name positive instead and let negatives be mined.",
                )
            ]
        return self._problems_of_range(column)

    def _problems_of_range(self, column: ColumnProfile) -> list[Problem]:
        """Values outside of the range, as far as the profile kept them."""
        low, high = self.score_range
        outside = [value for value in column.values if not low <= _number(value) <= high]
        if not outside:
            return []
        return [
            Problem(
                field="label",
                message=f"column {self.label!r} holds {outside[0]}, which is not between {low:g} and {high:g}.",
                remedy="Set score_range to the least and the greatest label, such as [0, 5].",
            )
        ]


def _problems_of_cells(field: str, name: str, column: ColumnProfile) -> list[Problem]:
    if not column.empty:
        return []
    return [
        Problem(
            field=field,
            row=column.first_empty_row,
            message=f"column {name!r} is empty in {column.empty} rows, the first of them row {column.first_empty_row}.",
            remedy="Fill these cells or leave the rows out.",
        )
    ]


def _number(text: str) -> float:
    """A value of a profile as a number; truth values are 0 and 1."""
    return float({"true": "1", "false": "0"}.get(text.lower(), text))
