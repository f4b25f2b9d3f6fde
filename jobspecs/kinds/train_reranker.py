"""`train-reranker`: fine-tune an encoder as a cross-encoder, which reads query and passage together and scores them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from jobspecs.kinds.base import BASE_ROLE, Section
from jobspecs.kinds.hard_negatives import NEGATIVES_ROLE, HardNegatives
from jobspecs.kinds.training import EncoderTraining, PairValidation, TrainingSpec
from jobspecs.problems import Problem
from jobspecs.profile import ColumnProfile, DatasetProfile, empty_cells, tokens_at_most
from jobspecs.references import DatasetReference, ModelReference

#: `bce` and `mse` look at one pair at a time, the others at all passages of a query.
Loss = Literal["auto", "bce", "mse", "ranknet", "listnet", "listmle", "lambdaloss"]
LISTWISE = frozenset({"ranknet", "listnet", "listmle", "lambdaloss"})
#: What decides the verdict: the order of a query's passages, or how scores follow the labels over all pairs.
RankingMetric = Literal["ndcg_at_10", "spearman"]
#: The role of the embedder whose order is to be beaten.
BI_ENCODER_ROLE = "bi_encoder"
#: One query to train on and one to judge by; with fewer than this the figures mean nothing.
ROWS_MIN = 8


class RerankerValidation(PairValidation):
    """Queries held out: all rows of a query are on one side."""

    fraction: float = Field(default=0.2, ge=0, lt=1, description="share of the queries")


class RerankerTraining(EncoderTraining):
    """Hyperparameters. A batch is counted in pairs of query and passage."""

    max_length: int = Field(default=256, ge=8, le=8192, description="tokens per pair; the longer text is cut first")


class RerankerNegatives(HardNegatives):
    """Passages that `model` ranks high, else `bi_encoder`."""

    num_negatives: int = Field(default=4, ge=1, le=100, description="for each positive")


class Judge(Section):
    """Other labels for the held-out pairs: those of people, say, where a teacher's scores train."""

    label: str = Field(min_length=1, description="the column with the labels to judge by")
    score_range: tuple[float, float] = Field(default=(0.0, 1.0), description="least and greatest of these labels")


class TrainReranker(TrainingSpec):
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
    threshold: float | None = Field(
        default=None, description="labels from here on become 1, those below 0; for coarse labels made of fine ones"
    )
    judge: Judge | None = Field(default=None, description="judge by another column than the one that trains")
    metric: Literal["auto"] | RankingMetric = Field(
        default="auto",
        description="what decides the verdict; auto: nDCG@10 where most pairs of the whole data set belong to a query "
        "with passages of unlike labels, else Spearman",
    )
    loss: Loss = Field(default="auto", description="bce when absent: right for both binary and graded labels")
    hard_negatives: RerankerNegatives | None = Field(default=None, description="add mined negatives to the positives")
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
        for low, high in (self.score_range, self.judge.score_range if self.judge else (0.0, 1.0)):
            if low >= high:
                raise ValueError("score_range goes from the least label to the greatest, such as [0, 5]")
        if not labelled and (self.threshold is not None or self.judge is not None):
            raise ValueError("threshold and judge are about labels: name passage and label")
        if len(set(self.columns.values())) < len(self.columns):
            raise ValueError("each of query, passage, label, positive and negative is a column of its own")
        return self

    @property
    def columns(self) -> dict[str, str]:
        """Field -> column, for the fields that are set."""
        fields = ("query", "passage", "label", "positive", "negative")
        return {field: getattr(self, field) for field in fields if getattr(self, field) is not None}

    @property
    def judging(self) -> TrainReranker:
        """The same spec with the labels that judge in place of those that train."""
        if self.judge is None:
            return self
        return self.model_copy(
            update={"label": self.judge.label, "score_range": self.judge.score_range, "threshold": None, "judge": None}
        )

    @property
    def loss_name(self) -> Loss:
        """The loss that trains."""
        return "bce" if self.loss == "auto" else self.loss

    @property
    def mines_negatives(self) -> bool:
        """Whether negatives are mined: when asked to, and when the data hold positives alone."""
        return self.hard_negatives is not None or (self.positive is not None and self.negative is None)

    def model_references(self) -> dict[str, str]:
        """Role -> reference: the base, and the embedders that find negatives and that are to be beaten."""
        roles = {BASE_ROLE: self.model, BI_ENCODER_ROLE: self.bi_encoder}
        if self.hard_negatives is not None:
            roles[NEGATIVES_ROLE] = self.hard_negatives.model
        return {role: reference for role, reference in roles.items() if reference is not None}

    def read_columns(self) -> list[tuple[str, str]]:
        return [*self.columns.items(), *([] if self.judge is None else [("judge", self.judge.label)])]

    def problems_with(self, profile: DatasetProfile) -> list[Problem]:
        """Why this spec can't work on a data set with this profile; empty when it can."""
        if problems := self.absent_columns(profile):
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
            for field, column in self.read_columns()
            for problem in empty_cells(field, column, profile.columns[column])
        ]
        return (
            problems or _problems_of_label(self, profile, "label") or _problems_of_label(self.judging, profile, "judge")
        )

    def batch_shape(self, profile: DatasetProfile | None) -> tuple[int, int]:
        texts = [column for field, column in self.columns.items() if field != "label"]
        longest = [profile.columns[name].longest_chars for name in texts] if profile else [0]
        chars = longest[0] + max(longest[1:], default=0)
        return self.training.batch_size, tokens_at_most(chars, self.training.max_length)


def _problems_of_label(spec: TrainReranker, profile: DatasetProfile, field: str) -> list[Problem]:
    if spec.label is None:
        return []
    column = profile.columns[spec.label]
    if column.kind not in ("number", "boolean"):
        return [
            Problem(
                field=field,
                message=f"column {spec.label!r} does not hold numbers.",
                remedy="Use 0 and 1, a score from 0 to 1, or set score_range.",
            )
        ]
    if column.distinct < 2:
        return [
            Problem(
                field=field,
                message=f"column {spec.label!r} holds one value only: there is nothing to tell apart.",
                remedy="Add pairs with another label, or name positive instead and let negatives be mined.",
            )
        ]
    return _problems_of_range(spec, column, field)


def _problems_of_range(spec: TrainReranker, column: ColumnProfile, field: str) -> list[Problem]:
    """Values outside of the range, as far as the profile kept them."""
    if spec.threshold is not None:
        return []
    low, high = spec.score_range
    outside = [value for value in column.numbers() if not low <= value <= high]
    if not outside:
        return []
    return [
        Problem(
            field=field,
            message=f"column {spec.label!r} holds {outside[0]:g}, which is not between {low:g} and {high:g}.",
            remedy="Set score_range to the least and the greatest label, such as [0, 5].",
        )
    ]
