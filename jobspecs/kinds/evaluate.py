"""`evaluate`: how good registered models are on a data set, each by itself and in pairs on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from jobspecs.kinds.answering import Answering, columns_in
from jobspecs.kinds.base import BASE_ROLE, Section, SpecBase
from jobspecs.kinds.predict import wrong_task
from jobspecs.problems import Problem
from jobspecs.profile import DatasetProfile, empty_cells, tokens_at_most
from jobspecs.references import DatasetReference, ModelReference, Name
from jobspecs.tasks import SENTENCE_SIMILARITY, TEXT_CLASSIFICATION, TEXT_GENERATION, TEXT_RANKING

Task = Literal["classification", "similarity", "retrieval", "reranking", "perplexity", "generation"]
#: The role of the model that judges answers.
JUDGE_ROLE = "judge"
MODELS_MAX = 8


class JudgingModel(Section):
    """A language model that is asked which of two answers is better, twice, with their order changed."""

    model: ModelReference = Field(description="a language model; it should not be one of those that are judged")
    question: str = Field(
        default="Which answer to the question is better, A or B? Say the letter alone.",
        min_length=1,
        max_length=2000,
        description="what it is asked behind the question and the two answers, A and B",
    )


class Needs(Section):
    """What a task reads: fields that it must have, others that it may have, and tasks of models that can do it."""

    must: tuple[str, ...]
    may: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


NEEDS: Mapping[Task, Needs] = MappingProxyType(
    {
        "classification": Needs(must=("text", "label"), models=(TEXT_CLASSIFICATION.name,)),
        "similarity": Needs(must=("pair", "score"), models=(SENTENCE_SIMILARITY.name, TEXT_RANKING.name)),
        "retrieval": Needs(must=("query", "passage"), models=(SENTENCE_SIMILARITY.name,)),
        "reranking": Needs(must=("query", "passage", "label"), models=(TEXT_RANKING.name, SENTENCE_SIMILARITY.name)),
        "perplexity": Needs(must=("text",), models=(TEXT_GENERATION.name,)),
        "generation": Needs(
            must=(),
            may=("prompt", "messages", "system", "reference", "json_schema", "judge", "generation"),
            models=(TEXT_GENERATION.name,),
        ),
    }
)
_COLUMNS = ("text", "label", "pair", "score", "query", "passage", "messages", "reference")
_READ = (*_COLUMNS, "prompt", "system", "json_schema", "judge", "generation")


class Evaluate(SpecBase):
    """The first of `models` is what the evaluation is about; the others are compared with it on the same rows."""

    RESULT: ClassVar[Literal["model", "dataset"]] = "dataset"

    kind: Literal["evaluate"]
    name: Name = Field(description="the job's name, and the name of the data set with what was found of each row")
    models: Annotated[list[ModelReference], Field(min_length=1, max_length=MODELS_MAX)]
    dataset: DatasetReference
    task: Task
    text: str | None = Field(default=None, min_length=1, description="classification, perplexity: the column")
    label: str | None = Field(
        default=None, min_length=1, description="classification: the true class; reranking: how relevant, from 0 to 1"
    )
    pair: tuple[str, str] | None = Field(default=None, description="similarity: the columns with the two texts")
    score: str | None = Field(default=None, min_length=1, description="similarity: the column with what people say")
    query: str | None = Field(default=None, min_length=1, description="retrieval, reranking: the column")
    passage: str | None = Field(
        default=None, min_length=1, description="reranking: what is scored; retrieval: what its query should find"
    )
    prompt: str | None = Field(default=None, min_length=1, max_length=20_000, description="generation, with {column}s")
    messages: str | None = Field(
        default=None,
        min_length=1,
        description="generation: a column with conversations; the last answer is the right one",
    )
    system: str | None = Field(default=None, max_length=20_000, description="generation: beside prompt")
    reference: str | None = Field(default=None, min_length=1, description="generation: the column with right answers")
    json_schema: dict[str, Any] | None = Field(default=None, description="generation: what answers should keep to")
    judge: JudgingModel | None = None
    generation: Answering = Answering(max_new_tokens=128)
    max_length: int = Field(default=1024, ge=8, le=1_048_576, description="tokens that are read of a row at most")
    checkpoint_every_rows: int | None = Field(default=None, ge=1, description="about one a minute when absent")

    @field_validator("prompt", "system")
    @classmethod
    def _templates_can_be_read(cls, value: str | None) -> str | None:
        columns_in(value)
        return value

    @model_validator(mode="after")
    def _has_what_its_task_reads(self) -> Evaluate:
        needs = NEEDS[self.task]
        # Defaults may be written out, as stored specs do.
        given = [name for name in _READ if getattr(self, name) != type(self).model_fields[name].default]
        if lacking := [name for name in needs.must if getattr(self, name) is None]:
            raise ValueError(f"{self.task} needs the fields {' and '.join(needs.must)}; {lacking[0]} is missing")
        if strange := [name for name in given if name not in (*needs.must, *needs.may)]:
            raise ValueError(f"{self.task} does not read {strange[0]}: leave it out, or choose another task")
        if len({*self.models}) < len(self.models):
            raise ValueError("models names one model twice")
        if self.task == "generation":
            self._check_generation()
        return self

    def _check_generation(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("generation asks with prompt or with messages: give one of them")
        if self.system is not None and self.prompt is None:
            raise ValueError("system stands beside prompt; conversations in messages bring their own")
        if self.messages is not None and self.reference is not None:
            raise ValueError("the last answer in messages is the right one: leave reference out")
        by = (self.reference, self.messages, self.json_schema, self.judge)
        if all(one is None for one in by):
            raise ValueError("say by what answers are judged: reference, messages, json_schema or judge")
        if self.judge is not None and len(self.models) < 2 and self.reference is None and self.messages is None:
            raise ValueError("a judge compares two answers: name two models, or reference")

    @property
    def has_references(self) -> bool:
        """Whether there is a right answer for each row."""
        return self.reference is not None or self.messages is not None

    def roles(self) -> dict[str, str]:
        """Role -> reference of each model that is evaluated: `model`, `model2`, `model3`, …"""
        return {
            BASE_ROLE if number == 1 else f"{BASE_ROLE}{number}": reference
            for number, reference in enumerate(self.models, start=1)
        }

    def model_references(self) -> dict[str, str]:
        judge = {JUDGE_ROLE: self.judge.model} if self.judge is not None else {}
        return {**self.roles(), **judge}

    def read_columns(self) -> list[tuple[str, str]]:
        named: list[tuple[str, str]] = []
        for field in _COLUMNS:
            value = getattr(self, field)
            named += [(field, column) for column in ((value,) if isinstance(value, str) else value or ())]
        for field in ("prompt", "system"):
            named += [(field, column) for column in columns_in(getattr(self, field))]
        return named

    def batch_shape(self, profile: DatasetProfile | None) -> tuple[int, int]:
        named = [column for _, column in self.read_columns()]
        chars = sum(profile.columns[name].longest_chars for name in named if name in profile.columns) if profile else 0
        return 1, tokens_at_most(chars, self.max_length)

    def problems_with(self, profile: DatasetProfile) -> list[Problem]:
        problems = [*self.absent_columns(profile), *self.problems_of_resources()]
        if profile.rows == 0:
            problems.append(Problem(field="dataset", message="the data set has no rows.", remedy="Push one with rows."))
        if problems:
            return problems
        numeric = "score" if self.task == "similarity" else "label" if self.task == "reranking" else None
        if numeric is not None and profile.columns[getattr(self, numeric)].kind not in ("number", "boolean"):
            message = f"column {getattr(self, numeric)!r} does not hold numbers."
            problems.append(Problem(field=numeric, message=message, remedy="Name a column with numbers."))
        read = [(field, name) for field, name in self.read_columns() if field not in ("prompt", "system", "messages")]
        return problems or [
            problem for field, name in read for problem in empty_cells(field, name, profile.columns[name])
        ]

    def problems_of_models(self, tasks: Mapping[str, str | None]) -> list[Problem]:
        wanted = NEEDS[self.task].models
        problems = []
        for place, (role, reference) in enumerate(self.roles().items()):
            if role in tasks and tasks[role] not in wanted:
                problems.append(wrong_task(f"models.{place}", reference, tasks[role], wanted, self.task))
        if self.judge is not None and tasks.get(JUDGE_ROLE, TEXT_GENERATION.name) != TEXT_GENERATION.name:
            which = (TEXT_GENERATION.name,)
            problems.append(wrong_task("judge.model", self.judge.model, tasks[JUDGE_ROLE], which, "an answer"))
        return problems
