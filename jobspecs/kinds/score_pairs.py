"""`score-pairs`: a teacher scores the pairs of a data set; the result is a new data set to train on."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from jobspecs.kinds.base import Section, SpecBase
from jobspecs.problems import Problem
from jobspecs.profile import ColumnProfile, DatasetProfile, empty_cells, tokens_at_most
from jobspecs.references import DatasetReference, ModelReference, Name

#: The role of the model that scores.
TEACHER_ROLE = "teacher"
PLACEHOLDER = re.compile(r"\{(sentence1|sentence2|query|passage)\}")
_FIRST, _SECOND = {"sentence1", "query"}, {"sentence2", "passage"}


class Question(Section):
    """What an LLM is asked about each pair. Its score is the probability of `yes` beside that of `no`."""

    prompt: str = Field(
        default="Query: {query}\n\nPassage: {passage}\n\nDoes the passage answer the query? Answer with yes or no.",
        min_length=1,
        max_length=20_000,
        description="holds {query} and {passage}, or {sentence1} and {sentence2}; other braces stay as they are",
    )
    system: str | None = Field(default=None, max_length=20_000, description="the system prompt, if the model has one")
    yes: str = Field(default="yes", min_length=1, max_length=100, description="its first token is the one looked at")
    no: str = Field(default="no", min_length=1, max_length=100, description="its first token is the one looked at")

    @field_validator("prompt")
    @classmethod
    def _check_placeholders(cls, prompt: str) -> str:
        found = set(PLACEHOLDER.findall(prompt))
        if not (found & _FIRST and found & _SECOND):
            raise ValueError("the prompt must hold {query} and {passage}, or {sentence1} and {sentence2}")
        return prompt


class ScorePairs(SpecBase):
    """Scores the pairs in the two columns `pair` with `teacher` and keeps all columns, with one more: `score`."""

    RESULT: ClassVar[Literal["model", "dataset"]] = "dataset"

    kind: Literal["score-pairs"]
    name: Name = Field(description="the job's name, and the name of the data set it makes or adds a version to")
    teacher: ModelReference = Field(description="a cross-encoder (text-ranking) or an LLM (text-generation)")
    dataset: DatasetReference
    pair: tuple[str, str] = Field(description="the columns with the two texts: query and passage, or two sentences")
    score: str = Field(default="score", min_length=1, max_length=200, description="the new column with the scores")
    activation: Literal["sigmoid", "none"] = Field(
        default="sigmoid", description="sigmoid gives 0 to 1; none gives the logits, of an LLM that of yes less no"
    )
    label: str | None = Field(
        default=None, min_length=1, description="a column with labels or scores to compare the new ones with"
    )
    question: Question = Question()
    max_length: int = Field(default=512, ge=8, le=32768, description="tokens per pair; longer texts are cut")
    checkpoint_every_rows: int | None = Field(default=None, ge=1, description="about one a minute when absent")

    @model_validator(mode="after")
    def _check_columns(self) -> ScorePairs:
        if self.pair[0] == self.pair[1]:
            raise ValueError("pair names one column twice; the two texts are in two columns")
        if self.score in (*self.pair, self.label):
            raise ValueError(f"score makes a new column, and {self.score!r} is one that is read; choose another name")
        return self

    def model_references(self) -> dict[str, str]:
        return {TEACHER_ROLE: self.teacher}

    def read_columns(self) -> list[tuple[str, str]]:
        named = [("pair", self.pair[0]), ("pair", self.pair[1]), ("label", self.label)]
        return [(field, column) for field, column in named if column is not None]

    def batch_shape(self, profile: DatasetProfile | None) -> tuple[int, int]:
        chars = sum(profile.columns[name].longest_chars for name in self.pair) if profile else 0
        return 1, tokens_at_most(chars, self.max_length)

    def profile_made(self, profile: DatasetProfile) -> DatasetProfile:
        """The same rows with the column of scores."""
        scores = ColumnProfile(
            kind="number", empty=0, distinct=profile.rows, distinct_capped=True, longest_chars=20, mean_chars=18.0
        )
        return DatasetProfile(rows=profile.rows, columns={**profile.columns, self.score: scores})

    def problems_with(self, profile: DatasetProfile) -> list[Problem]:
        """Why this spec can't work on a data set with this profile; empty when it can."""
        problems = self.absent_columns(profile)
        if self.score in profile.columns:
            problems.append(
                Problem(
                    field="score",
                    message=f"the data set already has a column {self.score!r}.",
                    remedy="Choose another name, such as teacher_score; name this one as label to compare with it.",
                )
            )
        return problems or [*self._problems_of_texts(profile), *self._problems_of_label(profile)]

    def _problems_of_texts(self, profile: DatasetProfile) -> list[Problem]:
        return [problem for name in self.pair for problem in empty_cells("pair", name, profile.columns[name])]

    def _problems_of_label(self, profile: DatasetProfile) -> list[Problem]:
        if self.label is None or profile.columns[self.label].kind in ("number", "boolean"):
            return []
        return [
            Problem(
                field="label",
                message=f"column {self.label!r} does not hold numbers.",
                remedy="Leave label out, or name a column with numbers.",
            )
        ]
