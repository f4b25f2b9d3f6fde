"""`predict`: a registered model says something of every row of a data set; the result is a new data set."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from jobspecs.kinds.answering import Answering, columns_in
from jobspecs.kinds.base import BASE_ROLE, SpecBase
from jobspecs.problems import Problem
from jobspecs.profile import ColumnProfile, DatasetProfile, empty_cells, tokens_at_most
from jobspecs.references import DatasetReference, ModelReference, Name
from jobspecs.tasks import SENTENCE_SIMILARITY, SERVED_TASKS, TEXT_CLASSIFICATION, TEXT_GENERATION, TEXT_RANKING

#: What a model of each task says of a row, and what kind of column that makes; the prefix goes before it.
MADE: Mapping[str, Mapping[str, Literal["text", "number", "other"]]] = MappingProxyType(
    {
        TEXT_CLASSIFICATION.name: {"label": "text", "probability": "number", "probabilities": "other"},
        SENTENCE_SIMILARITY.name: {"vector": "other", "score": "number"},
        TEXT_RANKING.name: {"score": "number"},
        TEXT_GENERATION.name: {"answer": "text", "finish_reason": "text", "tokens": "number"},
    }
)
#: Field that says what is read -> tasks whose models read that.
READ_BY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "text": (TEXT_CLASSIFICATION.name, SENTENCE_SIMILARITY.name),
        "pair": (TEXT_RANKING.name, SENTENCE_SIMILARITY.name),
        "prompt": (TEXT_GENERATION.name,),
        "messages": (TEXT_GENERATION.name,),
    }
)


class Predict(SpecBase):
    """Exactly one of `text`, `pair`, `prompt` and `messages` says what the model reads of a row."""

    RESULT: ClassVar[Literal["model", "dataset"]] = "dataset"

    kind: Literal["predict"]
    name: Name = Field(description="the job's name, and the name of the data set it makes or adds a version to")
    model: ModelReference = Field(description="a classifier, an embedder, a reranker or a language model")
    dataset: DatasetReference
    text: str | None = Field(
        default=None, min_length=1, description="the column that a classifier or an embedder reads"
    )
    pair: tuple[str, str] | None = Field(
        default=None, description="two columns: a reranker scores them, an embedder gives their cosine"
    )
    prompt: str | None = Field(
        default=None, min_length=1, max_length=20_000, description='such as "Translate to French: {text}"'
    )
    messages: str | None = Field(
        default=None, min_length=1, description="a column with conversations; answers at their end are left out"
    )
    system: str | None = Field(default=None, max_length=20_000, description="the system prompt, beside prompt")
    prefix: str = Field(default="predicted_", max_length=64, description="what the names of new columns begin with")
    max_length: int = Field(default=1024, ge=8, le=1_048_576, description="tokens that are read of a row at most")
    prompt_name: str | None = Field(default=None, description="of an embedder's prompts, such as query")
    generation: Answering = Answering()
    checkpoint_every_rows: int | None = Field(default=None, ge=1, description="about one a minute when absent")

    @field_validator("prompt", "system")
    @classmethod
    def _templates_can_be_read(cls, value: str | None) -> str | None:
        columns_in(value)
        return value

    @model_validator(mode="after")
    def _reads_one_thing(self) -> Predict:
        given = [name for name in READ_BY if getattr(self, name) is not None]
        if len(given) != 1:
            told = f"{' and '.join(given)} are given" if given else "none is given"
            raise ValueError(f"say with one of text, pair, prompt and messages what the model reads; {told}")
        if self.system is not None and self.prompt is None:
            raise ValueError("system stands beside prompt; conversations in messages bring their own")
        return self

    @property
    def reads(self) -> str:
        """The field that says what the model reads: text, pair, prompt or messages."""
        return next(name for name in READ_BY if getattr(self, name) is not None)

    def read_columns(self) -> list[tuple[str, str]]:
        if self.pair is not None:
            return [("pair", column) for column in self.pair]
        templates = {"prompt": self.prompt, "system": self.system}
        named = [(field, column) for field, text in templates.items() for column in columns_in(text)]
        return [
            *((field, column) for field in ("text", "messages") if (column := getattr(self, field)) is not None),
            *named,
        ]

    def made_columns(self, task: str | None = None) -> dict[str, Literal["text", "number", "other"]]:
        """New columns and what they hold; those of all tasks that may be meant where the task isn't known."""
        tasks = READ_BY[self.reads] if task is None else (task,)
        wanted = {"text": ("score",), "pair": ("vector",)}.get(self.reads, ())
        return {
            f"{self.prefix}{name}": kind
            for one in tasks
            for name, kind in MADE[one].items()
            if one != SENTENCE_SIMILARITY.name or name not in wanted
        }

    def batch_shape(self, profile: DatasetProfile | None) -> tuple[int, int]:
        named = [column for _, column in self.read_columns()]
        chars = sum(profile.columns[name].longest_chars for name in named if name in profile.columns) if profile else 0
        return 1, tokens_at_most(chars, self.max_length)

    def profile_made(self, profile: DatasetProfile) -> DatasetProfile:
        """The same rows with what the model says of them."""
        made = {
            name: ColumnProfile(
                kind=kind, empty=0, distinct=profile.rows, distinct_capped=True, longest_chars=20, mean_chars=18.0
            )
            for name, kind in self.made_columns().items()
        }
        return DatasetProfile(rows=profile.rows, columns={**profile.columns, **made})

    def problems_with(self, profile: DatasetProfile) -> list[Problem]:
        problems = [*self.absent_columns(profile), *self.problems_of_resources()]
        if profile.rows == 0:
            problems.append(Problem(field="dataset", message="the data set has no rows.", remedy="Push one with rows."))
        for name in self.made_columns():
            if name in profile.columns:
                message = f"the data set already has a column {name!r}."
                problems.append(Problem(field="prefix", message=message, remedy="Choose another prefix."))
        if problems:
            return problems
        read = [(field, name) for field, name in self.read_columns() if field in ("text", "pair")]
        return [problem for field, name in read for problem in empty_cells(field, name, profile.columns[name])]

    def problems_of_models(self, tasks: Mapping[str, str | None]) -> list[Problem]:
        task = tasks.get(BASE_ROLE)
        if BASE_ROLE not in tasks or task in READ_BY[self.reads]:
            return []
        return [self.wrong_task(task)]

    def wrong_task(self, task: str | None) -> Problem:
        """That a model of this task does not read what the spec gives it, and what it does read."""
        problem = wrong_task("model", self.model, task, READ_BY[self.reads], self.reads)
        others = [field for field, tasks in READ_BY.items() if task in tasks]
        more = f" What {self.model} reads is named by {' or '.join(others)}." if others else ""
        return problem.model_copy(update={"remedy": f"{problem.remedy}{more}"})


def wrong_task(field: str, model: str, task: str | None, wanted: tuple[str, ...], what: str) -> Problem:
    """That a model can't do what it is named for."""
    nouns = " or ".join(SERVED_TASKS[name].noun for name in wanted)
    is_one = SERVED_TASKS[task].noun if task is not None and task in SERVED_TASKS else "a model without a task"
    return Problem(field=field, message=f"{model} is {is_one}; {what} is for {nouns}.", remedy=f"Name {nouns}.")
