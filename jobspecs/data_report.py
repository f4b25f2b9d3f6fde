"""What a check of a whole data set found before anything was trained: can this job work with it, and is it wasteful?"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jobspecs.problems import Problem

#: So many refused rows are told one by one; the others are counted.
REFUSED_ROWS_SHOWN = 20
#: So many of the longest sequences are told.
LONGEST_SHOWN = 32
#: So many classes are told one by one, the largest first.
CLASSES_SHOWN = 50


#: A value of a spec.
Setting = str | int | float | bool


#: So many rows are named for something that is said of several.
ROWS_NAMED = 3


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True)


class LengthBin(_Report):
    """Sequences of `low` to `high` tokens, both included."""

    low: int
    high: int
    sequences: int


class TokenLengths(_Report):
    """How long the sequences are that the model will read, special tokens included, before they are cut."""

    #: `tokenizer`: counted with the base model's own. `characters`: estimated, because it has no tokenizer.json.
    counted_by: Literal["tokenizer", "characters"]
    #: What a sequence is: `text`, `pair`, `conversation` …
    unit: str
    sequences: int = Field(ge=0)
    mean: float
    #: Mean and standard deviation of what the model reads, thus after the cut.
    read_mean: float
    read_deviation: float
    p50: int
    p95: int
    longest: int
    #: The longest sequences, the longest first: a sample of the rows misses some of them.
    longest_few: tuple[int, ...] = ()
    #: Tokens at which the job cuts: the spec's max_length, or what the base model's positions reach if that is less.
    max_length: int
    #: Sequences longer than that.
    truncated: int
    bins: tuple[LengthBin, ...]

    @property
    def truncated_share(self) -> float:
        return self.truncated / self.sequences if self.sequences else 0.0


class FieldOverlap(_Report):
    """The different held-out texts of one field of the spec, and how many of them are trained on in any field."""

    field: str
    held_out: int
    trained_on: int


#: Fields whose texts are not just called by them.
_TEXTS_OF = {"query": "queries", "sentence1": "first sentences", "sentence2": "second sentences"}


class Overlap(_Report):
    """Which texts are on both sides of a split; the same in a check, a job's report and a model's card."""

    fields: tuple[FieldOverlap, ...] = ()
    #: Rows, or pairs of them, that neither train nor judge, because they would join the sides.
    left_out: int = 0

    @property
    def sentence(self) -> str:
        """In plain words; empty where nothing is known."""
        parts = [
            f"{of.trained_on:,} of {of.held_out:,} held-out {_TEXTS_OF.get(of.field, of.field + 's')}"
            for of in self.fields
        ]
        said = f"{' and '.join(parts)} are trained on too." if parts else ""
        if self.left_out:
            said += f" {self.left_out:,} rows that would join the two sides are left out."
        return said


class HeldOut(_Report):
    """The split that the job will make."""

    #: What is dealt to one side whole: `row`, `query` …
    unit: str
    train: int
    #: Rows that judge.
    validation: int
    #: Rows of the section `validation`, where those of `test` judge.
    choosing: int = 0
    #: Held-out rows whose text, but for case and spaces, is also trained on: they flatter the result.
    leaked: int
    #: Rows that judge whose text, but for case and spaces, also chooses: what was chosen by them flatters the result.
    choosing_too: int = 0
    first_leaked_row: int | None = None
    #: Which file it is a row of, where that isn't the data set's only one.
    first_leaked_file: str | None = None
    #: Texts on both sides, for rows of two texts and more.
    overlap: Overlap = Overlap()

    @property
    def leaked_share(self) -> float:
        return self.leaked / self.validation if self.validation else 0.0


class RefusedKind(_Report):
    """One reason for which rows are refused: how many, the first of them, and the reason as the first one has it."""

    count: int
    rows: tuple[int, ...]
    #: What people call these rows.
    row_names: tuple[str, ...] = ()
    problem: Problem


class DataReport(_Report):
    """`problems`: why the job can't work; a spec with any is refused. `warnings`: what may be wasteful."""

    kind: str
    #: The data set's file.
    file: str
    #: Data rows that were read.
    rows: int
    #: Rows that the job can use.
    usable: int
    #: False when the check had to stop early: then everything is said of the first `rows` rows.
    complete: bool = True
    #: Rows that can't be used, and the first of them with their reasons.
    refused: int = 0
    refused_rows: tuple[Problem, ...] = ()
    #: The same by reason, the most frequent first; reasons that differ in numbers only count as one.
    refused_kinds: tuple[RefusedKind, ...] = ()
    #: Rows that repeat an earlier one, but for case and spaces.
    duplicates: int = 0
    #: Usable rows that are left out, because their answers begin after max_length: how many, the first of them, and the
    #: tokens that the longest needs.
    unlearnable: int = 0
    unlearnable_rows: tuple[int, ...] = ()
    unlearnable_tokens: int = 0
    tokens: TokenLengths | None = None
    held_out: HeldOut | None = None
    #: Rows per class, the largest first; None where there are no classes.
    classes: dict[str, int] | None = None
    classes_total: int | None = None
    #: What the job will train with, defaults included, by the names of the spec.
    settings: dict[str, Setting] = Field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
