"""`train-classifier`: fine-tune an encoder (BERT and its kin) to sort texts into classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jobspecs.kinds.training import EncoderTraining, LabelData, TrainingSpec, Validation
from jobspecs.labels import class_rows
from jobspecs.problems import InvalidInput, Problem
from jobspecs.profile import ColumnProfile, DatasetProfile, empty_cells, tokens_at_most
from jobspecs.references import TFIDF_SVM, ClassifierBase, DatasetReference

#: More classes than this are more likely an identifier column than a label.
CLASSES_MAX = 500
#: A class needs one row to train on and one to validate on.
ROWS_PER_CLASS_MIN = 2
#: A head that knows nothing yet learns so many times as fast as the encoder. 1,079 German rows of nine classes, MiniLM:
#: 66.5 % right without, 74.3 % with it. 2e-4 for all layers: 75.1 %, but 0.768 as loss on rows set aside, not 0.623.
HEAD_FACTOR = 10

#: What a linear model on word counts reads of `training`.
LINEAR_SETTINGS = ("class_weights", "seed")
#: Tokens per text that it reads: all of them.
_ALL_TOKENS = 1 << 20

#: What a verdict can be about.
ClassMetric = Literal["accuracy", "macro_f1", "balanced_accuracy", "mcc", "roc_auc"]


class StratifiedValidation(Validation):
    """The held-out split of a classifier."""

    stratify: bool = Field(default=True, description="keep the share of each class in both parts")


class ClassifierTraining(EncoderTraining):
    """Hyperparameters. The defaults are the usual ones for BERT on short texts."""

    max_length: int = Field(default=128, ge=8, le=8192, description="tokens per text; longer texts are cut")
    learning_rate: float = Field(default=5.0e-5, gt=0)
    head_learning_rate: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        default="auto",
        description="of the layers between encoder and classes, a pooler included. auto: "
        f"{HEAD_FACTOR} times learning_rate where the base brings no head for these classes, else learning_rate",
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: Literal["auto", "none", "balanced"] = Field(
        default="auto",
        description="balanced: every class has the same say. auto: balanced where the smallest class has less than "
        "half of an even share of the rows",
    )

    def head_factor(self, *, new: bool) -> float:
        """Times the learning rate at which the head learns. `new`: some of it was drawn for this job.

        A pooler that the base brings is taken for a part of the head. Learning as slowly as the encoder it made no
        difference that counts: macro F1 0.650 instead of 0.660 of 500 headlines, 0.550 instead of 0.551 of 2,000 where
        one class has a tenth (MiniLM, means of 3 seeds).
        """
        if self.head_learning_rate == "auto":
            return HEAD_FACTOR if new else 1
        return self.head_learning_rate / self.learning_rate

    def balances(self, counts: Sequence[int]) -> bool:
        """Whether classes have the same say. `counts`: their rows, without those that are named to judge."""
        return self.class_weights == "balanced" or (self.class_weights == "auto" and are_uneven(counts))


def are_uneven(counts: Sequence[int]) -> bool:
    """Whether the smallest class has less than half of what it had if all had equally many rows."""
    return 2 * len(counts) * min(counts) < sum(counts)


class TrainClassifier(TrainingSpec):
    """Fine-tunes `model` on the texts in column `text` with the classes in column `label`."""

    kind: Literal["train-classifier"]
    model: ClassifierBase = Field(
        description=f"the encoder to start from; or {TFIDF_SVM}: a linear model on word and character n-grams, trained "
        "from nothing in seconds"
    )
    dataset: DatasetReference
    text: str = Field(min_length=1, description="the column with the texts")
    label: str = Field(min_length=1, description="the column with the classes")
    rows: int | None = Field(default=None, ge=4, description="train on a stratified sample of this many rows")
    data: LabelData = LabelData()
    metric: Literal["auto"] | ClassMetric = Field(
        default="auto",
        description="what decides whether training helped. auto: macro F1 where the smallest class of the data set has "
        "less than half of an even share of the rows, or classes have the same say; else accuracy",
    )
    validation: StratifiedValidation = StratifiedValidation()
    training: ClassifierTraining = ClassifierTraining()

    @property
    def linear(self) -> bool:
        """Whether a linear model is trained, from nothing."""
        return self.model == TFIDF_SVM

    @property
    def tokens_read(self) -> int:
        """Of each text at most."""
        return _ALL_TOKENS if self.linear else self.training.max_length

    @model_validator(mode="after")
    def _a_linear_model_reads_few_settings(self) -> Self:
        """Defaults may be written out, as stored specs do."""
        if not self.linear:
            return self
        for name, field in ClassifierTraining.model_fields.items():
            if name not in LINEAR_SETTINGS and getattr(self.training, name) != field.default:
                known = " and ".join(LINEAR_SETTINGS)
                raise ValueError(f"training.{name} means nothing to {self.model}, which reads {known}: leave it out")
        if self.judging_part == "test" and (self.validation.given or self.validation.fraction):
            raise ValueError(
                f"validation: beside test, {self.model} chooses nothing by it: leave it out, and they train"
            )
        return self

    def model_references(self) -> dict[str, str]:
        return {} if self.linear else super().model_references()

    def default_learning_rate(self) -> float | None:
        return None if self.linear else super().default_learning_rate()

    def problems_of_resources(self) -> list[Problem]:
        if self.linear and self.resources.gpus:
            message = f"{self.model} is trained on the CPU."
            return [Problem(field="resources.gpus", message=message, remedy="Leave gpus out.")]
        return super().problems_of_resources()

    def read_columns(self) -> list[tuple[str, str]]:
        return [("text", self.text), ("label", self.label)]

    def problems_with(self, profile: DatasetProfile) -> list[Problem]:
        """Why this spec can't work on a data set with this profile; empty when it can."""
        if problems := self.absent_columns(profile):
            return problems
        if self.text == self.label:
            known = ", ".join(profile.columns)
            return [
                Problem(field="label", message="text and label are the same column.", remedy=f"Choose two of: {known}.")
            ]
        least = 1 if self.validation.given else ROWS_PER_CLASS_MIN
        return [
            *_problems_of_text(self.text, profile),
            *_problems_of_label(self.label, profile.columns[self.label], least),
        ]

    def deciding_metric(self, class_rows: Sequence[int], *, balanced: bool) -> ClassMetric:
        """The metric that decides, given all rows of each class and whether classes have the same say.

        Raises InvalidInput for one that needs another number of classes.
        """
        if self.metric == "roc_auc" and len(class_rows) != 2:
            message = f"roc_auc is of two classes; there are {len(class_rows)}."
            raise InvalidInput([Problem(field="metric", message=message, remedy="Use macro_f1, or mcc.")])
        if self.metric != "auto":
            return self.metric
        return "macro_f1" if balanced or are_uneven(class_rows) else "accuracy"

    def batch_shape(self, profile: DatasetProfile | None) -> tuple[int, int]:
        longest_chars = profile.columns[self.text].longest_chars if profile else 0
        return self.training.batch_size, tokens_at_most(longest_chars, self.tokens_read)


def _problems_of_text(name: str, profile: DatasetProfile) -> list[Problem]:
    column = profile.columns[name]
    if profile.rows and column.empty == profile.rows:
        return [
            Problem(
                field="text",
                message=f"column {name!r} is empty in every row.",
                remedy="Choose the column with the texts.",
            )
        ]
    return empty_cells("text", name, column)


def _problems_of_label(name: str, column: ColumnProfile, least: int) -> list[Problem]:
    if column.empty:
        return empty_cells("label", name, column)
    if column.distinct < 2:
        only = next(iter(column.values), "")
        return [
            Problem(
                field="label",
                message=f"column {name!r} holds one class only ({only!r}): there is nothing to tell apart.",
                remedy="Add rows of at least one other class.",
            )
        ]
    classes = class_rows(column.values)
    if column.distinct_capped or len(classes) > CLASSES_MAX:
        return [
            Problem(
                field="label",
                message=f"column {name!r} has more than {CLASSES_MAX} different values: that is no class label.",
                remedy="Choose the column with the classes.",
            )
        ]
    return [
        Problem(
            field="label",
            message=f"class {value!r} has {count} row; "
            f"a class needs {ROWS_PER_CLASS_MIN}, one to train and one to validate.",
            remedy="Add rows of that class or leave it out.",
        )
        for value, count in classes.values()
        if count < least
    ]
