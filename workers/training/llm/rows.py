"""The rows of a data set as token sequences: read, sampled, split by seed, rendered, cut to length."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from corpus.checks.occurrences import Refusals
from corpus.conversations.cutting import Part, cut, teaches
from corpus.conversations.examples import Conversation, Example, Judged, Message, PlainText, Preference
from corpus.conversations.formats import ChatSource
from corpus.conversations.identity import content_and_prompt
from corpus.conversations.reading import read_examples
from corpus.conversations.rendering import Rendered, Renderer, visible
from corpus.dealing import example_split
from corpus.held_out import DataPart
from jobspecs.data_report import ROWS_NAMED
from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.lifecycle import Reason
from jobspecs.problems import InvalidInput
from workers.local_models.tokens import Int64s
from workers.run.context import RunFailed
from workers.training.llm.sequences import Bools, Sequences, sequences_of

_log = logging.getLogger(__name__)

#: What templates that write the date are told: a resumed run must render the same.
_STILL = datetime(2026, 1, 1)
#: Tokens of a plain text that serve as the prompt of a sample.
_TEXT_PROMPT_TOKENS = 32
#: Characters of a plain text that stand for its prompt.
_TEXT_SHOWN_CHARS = 200
#: Examples between two calls of `between`.
_EVERY = 64
#: Characters of a rendered example, a prompt or an answer that a report holds.
_REPORTED_CHARS = 8000


@dataclass(frozen=True)
class SplitExamples:
    """The examples that train, those that judge, and those of `validation` where `test` judges."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    choosing: tuple[Example, ...] = ()
    #: Rows of the data set that are no example and were left out.
    skipped: int = 0


@dataclass(frozen=True)
class Rows:
    """Examples as sequences: one per row (sft, kto), several (pieces of plain texts), or 2r and 2r + 1 (pairs)."""

    sequences: Sequences
    #: (N,) kto: whether each answer is wanted.
    desirable: Bools
    #: Rows left out because nothing to learn was left of them, and rows that were cut to `max_length`.
    empty: int
    cut: int
    #: Tokens of the longest sequence that may be made of them.
    max_length: int
    #: (N,) the place of each sequence's example among those that were rendered.
    examples: Int64s

    def __len__(self) -> int:
        return len(self.sequences)


@dataclass(frozen=True)
class Prompt:
    """What is asked, for people and as token ids, and the answer of the data set."""

    text: str
    ids: list[int]
    reference: str


def load_examples(
    parts: Sequence[DataPart],
    spec: FinetuneLlm,
    renderer: Renderer | None = None,
    between: Callable[[int], None] = lambda done: None,
) -> SplitExamples:
    """Reads, samples and splits; depends on `validation.seed`, the data and, where bad rows are skipped, the template.

    `renderer`: rows that it refuses are bad rows too. Raises RunFailed(invalid_dataset) with file and row, unless bad
    rows are skipped.
    """
    skipped = Refusals()
    try:
        examples, roles = list[Example](), list[int]()
        for part in parts:
            with part.file.locating():
                for example in _examples(part, spec, renderer, skipped):
                    if len(examples) % _EVERY == 0:
                        between(len(examples))
                    examples.append(example)
                    roles.append(part.role(example.row))
        for kind in skipped.kinds:
            _log.warning("left out: %s: %s", kind.named, kind.problem)
        split = example_split(spec, np.array(roles, dtype=np.int8), _tied(examples))
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, str(error)) from error
    sides = (split.train, split.validation, split.choosing)
    train, held_out, choosing = (tuple(examples[row] for row in side) for side in sides)
    return SplitExamples(train, held_out, choosing, skipped.count)


def _examples(part: DataPart, spec: FinetuneLlm, renderer: Renderer | None, skipped: Refusals) -> Iterator[Example]:
    file, skips = part.file, spec.data.bad_rows == "skip"
    skip = partial(skipped.add, read_as=file.fmt.dialect)
    for example in read_examples(
        file.path,
        file.fmt,
        ChatSource.of(spec.data),
        objective=spec.objective,
        file_name=file.name,
        on_problem=skip if skips else None,
    ):
        try:
            # Split before they are refused, rows would be dealt otherwise than the check says.
            if skips and renderer is not None:
                renderer.example(example)
        except InvalidInput as error:
            skip(error.problems[0].model_copy(update={"file": file.name, "row": example.row}))
        else:
            yield example


def _tied(examples: Sequence[Example]) -> Int64s:
    """(N, 2) numbers of each example's content and prompt."""
    numbers: dict[str, int] = {}
    pairs = [content_and_prompt(example) for example in examples]
    rows = [
        [numbers.setdefault(text, len(numbers)) for text in (f"content {content}", prompt)] for content, prompt in pairs
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def load_renderer(folder: Path, spec: FinetuneLlm) -> Renderer:
    """The model's own chat template and tokenizer. Raises RunFailed(invalid_model)."""
    try:
        return Renderer.load(folder, clock=lambda: _STILL, treatment=spec.data.control_tokens)
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_model, f"base model: {error}") from error


def render(
    examples: Sequence[Example],
    renderer: Renderer,
    spec: FinetuneLlm,
    max_length: int,
    between: Callable[[int], None] = lambda done: None,
) -> Rows:
    """Token ids of every example, cut to `max_length`. Raises RunFailed(invalid_dataset) when none can be used."""
    parts: list[Part] = []
    desirable: list[bool] = []
    places: list[int] = []
    empty: list[int] = []
    shortened = 0
    for number, example in enumerate(examples):
        rendered = _rendered(example, renderer).values()
        pieces = [piece for part in rendered for piece in cut(part, spec, max_length)]
        shortened += any(len(part.ids) > max_length for part in rendered)
        if number % _EVERY == 0:
            between(number)
        if not teaches(pieces):
            empty.append(example.row)
            continue
        parts += pieces
        places += [number] * len(pieces)
        desirable.append(isinstance(example, Judged) and example.desirable)
    if not parts:
        raise RunFailed(
            Reason.invalid_dataset,
            f"no row leaves anything to learn within max_length ({max_length} tokens): {_named(empty)} begin their "
            "answers behind it.",
        )
    if empty:
        _log.warning("left out: %s, whose answers begin after max_length (%d tokens)", _named(empty), max_length)
    return Rows(
        sequences_of(parts),
        np.array(desirable, dtype=np.bool_),
        len(empty),
        shortened,
        max_length,
        np.array(places, dtype=np.int64),
    )


def _named(rows: Sequence[int]) -> str:
    named = ", ".join(str(row) for row in rows[:ROWS_NAMED])
    return f"{len(rows):,} rows ({named}{', …' if len(rows) > ROWS_NAMED else ''})"


def turn_end(examples: Sequence[Example], renderer: Renderer) -> str | None:
    """The special token that answers end with, as rendered; None where there is none, and for plain texts."""
    if isinstance(examples[0], PlainText):
        return None
    rendered = next(iter(_rendered(examples[0], renderer).values()))
    learnt = [token for token, counts in zip(rendered.ids, rendered.mask, strict=True) if counts]
    return renderer.special_token(learnt[-1]) if learnt else None


def mismatched(sequences: Sequences, max_length: int) -> Sequences:
    """Each prompt with the answer of the sequence before it (the first with the last's): for the KL estimate of KTO.

    Cut to `max_length` as rows are: of each prompt at least one token of the answer follows.
    """
    prompts, answers = [], []
    for start, stop in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True):
        first = int(start) + int(np.argmax(sequences.learnt[start:stop]))
        prompts.append(sequences.ids[start:first])
        answers.append((sequences.ids[first:stop], sequences.learnt[first:stop]))
    others = [answers[-1], *answers[:-1]]
    return sequences_of(
        (
            np.concatenate((prompt, ids))[:max_length],
            np.concatenate((np.zeros(len(prompt), dtype=np.bool_), learnt))[:max_length],
        )
        for prompt, (ids, learnt) in zip(prompts, others, strict=True)
    )


def joined(one: Sequences, other: Sequences) -> Sequences:
    """Both, one after the other."""
    offsets: Int64s = np.concatenate((one.offsets, one.offsets[-1] + other.offsets[1:]))
    return Sequences(np.concatenate((one.ids, other.ids)), np.concatenate((one.learnt, other.learnt)), offsets)


def beginning(text: str) -> str:
    """As much of a text as reports and logs hold: a row may have megabytes, and a report is read with every job."""
    return text if len(text) <= _REPORTED_CHARS else f"{text[:_REPORTED_CHARS]}…"


def shown(examples: Sequence[Example], renderer: Renderer, count: int) -> list[dict[str, Any]]:
    """The first examples as the model sees them, what is learnt between « and »; of long ones the beginning."""
    return [
        {"row": example.row, **{name: beginning(visible(part)) for name, part in _rendered(example, renderer).items()}}
        for example in examples[:count]
    ]


def prompt_of(example: Example, renderer: Renderer) -> Prompt:
    """What a server would send to have the example answered."""
    if isinstance(example, PlainText):
        ids = renderer.text(example.text).ids[:_TEXT_PROMPT_TOKENS]
        return Prompt(example.text[:_TEXT_SHOWN_CHARS], ids, "")
    asked, answer = _asked(example)
    ids = renderer.prompt(asked, example.tools).ids
    return Prompt("\n".join(message.said for message in asked), ids, answer)


def _asked(example: Conversation | Judged | Preference) -> tuple[tuple[Message, ...], str]:
    if isinstance(example, Preference):
        return example.prompt, example.chosen[-1].said
    return example.messages[:-1], example.messages[-1].said


def _rendered(example: Example, renderer: Renderer) -> dict[str, Rendered]:
    try:
        return renderer.example(example)
    except InvalidInput as error:
        raise RunFailed(Reason.invalid_dataset, f"row {example.row}: {error}") from error
