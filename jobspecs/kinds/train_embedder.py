"""`train-embedder`: turn an encoder into one whose vectors are close where texts mean the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from jobspecs.kinds.base import BASE_ROLE, Section
from jobspecs.kinds.embedder_data import COLUMNS, IN_BATCH, LOSSES, DataShape, LossChoice, LossName
from jobspecs.kinds.hard_negatives import NEGATIVES_ROLE, HardNegatives
from jobspecs.kinds.training import EncoderTraining, LabelData, PairValidation, TrainingSpec
from jobspecs.labels import class_rows
from jobspecs.problems import Problem
from jobspecs.profile import ColumnProfile, DatasetProfile, empty_cells, tokens_at_most
from jobspecs.references import DatasetReference, ModelReference

#: Fewer rows than this leave nothing to judge on.
ROWS_MIN = 4
#: Columns with negatives; as many as can be mined.
NEGATIVES_MAX = 100
#: Passages of the data set that held-out queries are searched among; embedding them twice takes minutes on a CPU.
PASSAGES_MAX = 20_000
#: An embedding table without layers takes steps that a transformer would not survive.
STATIC_LEARNING_RATE = 1.0e-2

Column = Annotated[str, Field(min_length=1)]
Dimension = Annotated[int, Field(ge=1, le=65536)]


class Prompts(Section):
    """What is put before each text, in training, in the verdict and, by name, when the model is served."""

    query: str = Field(default="", description="before anchors")
    passage: str = Field(default="", description="before positives and negatives")
    text: str = Field(default="", description="before sentences and labelled texts; the served model's default")


class EmbedderTraining(EncoderTraining):
    """Hyperparameters. The defaults are sentence-transformers' own for texts of a sentence or a paragraph."""

    scale: float = Field(default=20.0, gt=0, description="similarities are multiplied by it: 1 / temperature")
    margin: float | None = Field(
        default=None, gt=0, description="of triplet (5), batch-hard-triplet (5) and contrastive (0.5)"
    )
    mini_batch_size: int | None = Field(
        default=None, ge=1, description="texts in memory at once with the cached loss (32); setting it chooses that"
    )


class TrainEmbedder(TrainingSpec):
    """Trains `model` to embed texts. The columns that are named say what the data are; see `COLUMNS`."""

    kind: Literal["train-embedder"]
    model: ModelReference = Field(description="the encoder, embedder or static embedding to start from")
    dataset: DatasetReference
    anchor: Column | None = Field(default=None, description="the column with queries or first texts")
    positive: Column | None = Field(default=None, description="the column with what belongs to the anchor")
    negative: Column | Annotated[list[Column], Field(max_length=NEGATIVES_MAX)] | None = Field(
        default=None, description="columns with what does not"
    )
    sentence1: Column | None = None
    sentence2: Column | None = None
    score: Column | None = Field(default=None, description="the column that says how alike the sentences are")
    score_range: tuple[float, float] = Field(
        default=(0.0, 1.0), description="least and greatest score; they become 0 and 1"
    )
    text: Column | None = None
    label: Column | None = Field(default=None, description="the column with the classes of the texts")
    rows: int | None = Field(default=None, ge=ROWS_MIN, description="train on a random sample of this many rows")
    data: LabelData = LabelData()
    loss: LossChoice = "auto"
    matryoshka_dims: list[Dimension] = Field(
        default=[], max_length=32, description="the loss is also taken of the first so many dimensions"
    )
    truncate_dim: Dimension | None = Field(default=None, description="the result's embeddings are cut to this")
    pooling: Literal["auto", "mean", "cls"] = Field(
        default="auto", description="the base model's own, or the mean where it has none"
    )
    static: bool = Field(default=False, description="train the base model's table of token embeddings without layers")
    prompts: Prompts = Prompts()
    hard_negatives: HardNegatives | None = Field(
        default=None, description="add positives of other rows that the base or hard_negatives.model ranks high"
    )
    validation: PairValidation = PairValidation()
    training: EmbedderTraining = EmbedderTraining()

    @model_validator(mode="before")
    @classmethod
    def _static_learns_faster(cls, document: Any) -> Any:
        if not isinstance(document, dict) or document.get("static") is not True:
            return document
        training = document.get("training", {})
        if not isinstance(training, dict):
            return document
        return {**document, "training": {"learning_rate": STATIC_LEARNING_RATE, **training}}

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        shape = self.shape
        if self.loss != "auto" and self.loss not in LOSSES[shape]:
            raise ValueError(
                f"the loss {self.loss} does not learn from {_in_words(shape)}: choose one of {', '.join(LOSSES[shape])}"
            )
        if self.loss == "triplet" and not self.negatives and self.hard_negatives is None:
            raise ValueError("the loss triplet needs a negative: name its column or add hard_negatives: {}")
        if self.hard_negatives is not None and shape != "triplets":
            raise ValueError("hard_negatives are mined for anchor and positive; these data have neither")
        if self.validation.by == "both" and shape == "labelled-texts":
            raise ValueError("validation.by is about rows of two texts, and these have one: leave it out")
        if self.data.normalize_labels and shape != "labelled-texts":
            raise ValueError("data.normalize_labels is about labels, and these rows have none: leave it out")
        if self.score_range[0] >= self.score_range[1]:
            raise ValueError("score_range goes from the least score to the greatest, such as [0, 5]")
        if self.static and self.loss_name == "cached-multiple-negatives-ranking":
            raise ValueError("a static embedding keeps no activations to save: use multiple-negatives-ranking")
        if self.static and self.training.freeze_embeddings:
            raise ValueError("a static embedding has nothing but its embeddings to train: leave freeze_embeddings out")
        if self.static and self.pooling == "cls":
            raise ValueError("a static embedding is the mean of its tokens: leave pooling out")
        return self

    def default_learning_rate(self) -> float | None:
        return STATIC_LEARNING_RATE if self.static else super().default_learning_rate()

    def training_in_words(self) -> str:
        return f"a static {self.kind}" if self.static else self.kind

    @property
    def shape(self) -> DataShape:
        """What the data are, by the columns that are named. Raises ValueError when that is unclear."""
        named = {name for names in COLUMNS.values() for name in names if getattr(self, name) is not None}
        shapes = [shape for shape, names in COLUMNS.items() if named & set(names)]
        if len(shapes) != 1:
            known = "; ".join(f"{', '.join(names)} for {_in_words(shape)}" for shape, names in COLUMNS.items())
            raise ValueError(f"name the columns of one shape of data: {known}")
        missing = [name for name in COLUMNS[shapes[0]] if name not in named and name != "negative"]
        if missing:
            raise ValueError(f"{_in_words(shapes[0])} also need the column for: {', '.join(missing)}")
        return shapes[0]

    @property
    def negatives(self) -> list[str]:
        """The columns with negatives."""
        if self.negative is None:
            return []
        return [self.negative] if isinstance(self.negative, str) else list(self.negative)

    @property
    def text_columns(self) -> list[tuple[str, str]]:
        """(field, column) of every column with texts, in the order of the loss's inputs."""
        fields = {"triplets": ("anchor", "positive"), "scored-pairs": ("sentence1", "sentence2")}
        names = fields.get(self.shape, ("text",))
        return [(name, getattr(self, name)) for name in names] + [("negative", column) for column in self.negatives]

    @property
    def loss_name(self) -> LossName:
        """The loss that trains."""
        if self.loss != "auto":
            return self.loss
        if self.shape == "triplets" and self.training.mini_batch_size is not None:
            return "cached-multiple-negatives-ranking"
        return LOSSES[self.shape][0]

    @property
    def only_ends(self) -> bool:
        """Whether the loss knows no score between the ends of `score_range`."""
        return self.loss_name == "contrastive"

    @property
    def no_duplicates(self) -> bool:
        """Whether two rows of a batch must not share a text."""
        return self.loss_name in IN_BATCH

    def model_references(self) -> dict[str, str]:
        """The base, and the embedder that mines negatives where one is named."""
        references = {BASE_ROLE: self.model}
        if self.hard_negatives is not None and self.hard_negatives.model is not None:
            references[NEGATIVES_ROLE] = self.hard_negatives.model
        return references

    def read_columns(self) -> list[tuple[str, str]]:
        return [*self.text_columns, *self._target_columns()]

    def problems_with(self, profile: DatasetProfile) -> list[Problem]:
        """Why this spec can't work on a data set with this profile; empty when it can."""
        if problems := self.absent_columns(profile):
            return problems
        known, columns = ", ".join(profile.columns), self.read_columns()
        names = [column for _, column in columns]
        problems = [
            Problem(field=field, message=f"column {column!r} is named twice.", remedy=f"Choose among: {known}.")
            for position, (field, column) in enumerate(columns)
            if column in names[:position]
        ]
        problems += [problem for field, name in columns for problem in empty_cells(field, name, profile.columns[name])]
        if profile.rows < ROWS_MIN:
            problems.append(
                Problem(message=f"the data set has {profile.rows} rows; {ROWS_MIN} are needed.", remedy="Add rows.")
            )
        return problems or list(self._problems_of_target(profile))

    def batch_shape(self, profile: DatasetProfile | None) -> tuple[int, int]:
        """Texts of a batch over all columns, or of a mini-batch with the cached loss."""
        columns = self.text_columns
        mined = self.hard_negatives.num_negatives if self.hard_negatives else 0
        texts = self.training.batch_size * (len(columns) + mined)
        if self.loss_name == "cached-multiple-negatives-ranking":
            texts = min(texts, self.training.mini_batch_size or 32)
        longest = max((profile.columns[name].longest_chars for _, name in columns), default=0) if profile else 0
        return texts, tokens_at_most(longest, self.training.max_length) if profile else self.training.max_length

    def _target_columns(self) -> list[tuple[str, str]]:
        return [(name, column) for name in ("score", "label") if (column := getattr(self, name)) is not None]

    def _problems_of_target(self, profile: DatasetProfile) -> Iterable[Problem]:
        if self.score is not None:
            yield from self._problems_of_score(profile.columns[self.score])
        if self.label is not None:
            column = profile.columns[self.label]
            classes = class_rows(column.values).values()
            if not column.distinct_capped and sum(count > 1 for _, count in classes) < 2:
                yield Problem(
                    field="label",
                    message=f"column {self.label!r} needs two classes of at least two texts each.",
                    remedy="Add rows, or choose the column with the classes.",
                )

    def _problems_of_score(self, column: ColumnProfile) -> Iterable[Problem]:
        low, high = self.score_range
        if column.kind not in ("number", "boolean"):
            yield Problem(
                field="score",
                message=f"column {self.score!r} holds {column.kind}, not numbers.",
                remedy="Choose the column with the scores.",
            )
            return
        values = set(column.numbers())
        outside = sorted(value for value in values if not low <= value <= high)
        if outside:
            yield Problem(
                field="score_range",
                message=f"column {self.score!r} holds {outside[-1]:g}, which is not from {low:g} to {high:g}.",
                remedy="Write the least and the greatest score, such as score_range: [0, 5].",
            )
        elif self.loss_name == "contrastive" and not values <= {low, high}:
            yield Problem(
                field="loss",
                message=f"contrastive needs scores of {low:g} (different) and {high:g} (alike) only.",
                remedy="Use cosent for scores in between.",
            )
        elif not column.distinct_capped and column.distinct < 2:
            yield Problem(
                field="score",
                message=f"column {self.score!r} has one value only: there is nothing to tell apart.",
                remedy="Add pairs that are less or more alike.",
            )


def _in_words(shape: DataShape) -> str:
    return {
        "triplets": "anchors with positives",
        "scored-pairs": "pairs with scores",
        "labelled-texts": "texts with labels",
    }[shape]
