"""A data set seen as chats, and as one model will see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from api.datasets.chat_schemas import (
    ChatExample,
    ChatMessage,
    ChatPreview,
    ChatQuestion,
    RenderedPiece,
    RenderedSequence,
    UnreadField,
)
from api.datasets.service import Beginning, first_rows
from api.errors import not_found
from api.parts import Parts
from corpus.conversations.examples import Conversation, Example, Judged, Message, Objective, PlainText, messages_of
from corpus.conversations.formats import SHAPES, Recognised, recognise
from corpus.conversations.model_files import CHAT_FILES, TOKENIZER_BYTES_MAX
from corpus.conversations.reading import FIRST_ROWS, columns_of, converted
from corpus.conversations.rendering import Rendered
from corpus.conversations.sandbox import Outcome, render_confined
from corpus.conversations.unread import unread_fields
from jobspecs.pieces import StoredFile
from jobspecs.problems import InvalidInput, Problem
from jobspecs.references import parse_reference
from jobspecs.rights import Principal
from storage.objects import ObjectStore

_EXAMPLES = 3
#: Characters of all examples together; the rows of a preview are the first 4 MiB of a file.
_EXAMPLES_CHARS_MAX = 4 * 1024 * 1024


def fetch_model(parts: Parts, objects: ObjectStore, user: Principal, text: str, folder: Path) -> None:
    """Fetches what rendering reads of the model, which is little, into `folder`. Raises ApiError(404), InvalidInput."""
    files = {file.path: file for file in _files_of_model(parts, user, text)}
    for path in CHAT_FILES:
        file = files.get(path)
        if file is not None and file.bytes <= TOKENIZER_BYTES_MAX:
            objects.download_stored(file, folder / path, should_stop=parts.stopping.is_set)


def preview(
    parts: Parts,
    beginning: Beginning,
    model: Path | None,
    question: ChatQuestion,
    count: int | None,
    should_stop: Callable[[], bool],
) -> ChatPreview:
    """The first `count` examples, rendered when there is a folder with a model's files.

    Raises InvalidInput when the format is not recognised, the model can't render, or the examples are too long.
    """
    row = beginning.row
    rows = first_rows(parts, beginning, FIRST_ROWS, should_stop)
    objective, recognised = _recognised(rows, question)
    problems: list[Problem] = []
    unread: dict[str, UnreadField] = {}
    all_examples = _counted(converted(rows, recognised, row.file_name, problems.append), unread)
    examples = _first(all_examples, count or _EXAMPLES)
    rendered = (
        render_confined(parts.confinement, model, examples, should_stop, question.control_tokens) if model else None
    )
    outcomes = rendered.examples if rendered else [Outcome({}) for _ in examples]
    return ChatPreview(
        format=recognised.format,
        objective=objective,
        used=list(recognised.used),
        unused=list(recognised.unused),
        template=rendered.template if rendered else None,
        examples=[_described(example, outcome) for example, outcome in zip(examples, outcomes, strict=True)],
        unread=list(unread.values()),
        rows_checked=len(rows),
        problems=[beginning.format.dialect.located(problem) for problem in problems],
    )


def _recognised(rows: Sequence[Mapping[str, Any]], question: ChatQuestion) -> tuple[Objective, Recognised]:
    """For the objective that was named, else for the first one that the data set fits. Raises InvalidInput."""
    columns = columns_of(rows)
    if question.objective is not None:
        return question.objective, recognise(columns, rows, question.source, question.objective)
    refusals = []
    for objective in SHAPES:
        try:
            return objective, recognise(columns, rows, question.source, objective)
        except InvalidInput as error:
            refusals.append(error)
    raise refusals[0]


def _counted(examples: Iterable[Example], unread: dict[str, UnreadField]) -> Iterator[Example]:
    """The examples; `unread` is filled with the fields of their turns that nothing reads."""
    for example in examples:
        for name in unread_fields(example):
            known = unread.setdefault(name, UnreadField(field=name, rows=0, first_row=example.row))
            known.rows += 1
        yield example


def _first(examples: Iterable[Example], count: int) -> list[Example]:
    """The first `count`. The others are made too, one at a time, for what is wrong with them.

    Raises InvalidInput when those of the answer are too long in all.
    """
    taken: list[Example] = []
    chars = 0
    for example in examples:
        if len(taken) == count:
            continue
        taken.append(example)
        chars += _chars(example)
        if chars > _EXAMPLES_CHARS_MAX:
            message = (
                f"the first {len(taken)} examples have {chars:,} characters; {_EXAMPLES_CHARS_MAX:,} are possible."
            )
            raise InvalidInput([Problem(field="rows", message=message, remedy="Ask for fewer rows, or shorter texts.")])
    return taken


def _chars(example: Example) -> int:
    if isinstance(example, PlainText):
        return len(example.text)
    return sum(len(message.said) for message in messages_of(example))


def _files_of_model(parts: Parts, user: Principal, text: str) -> Sequence[StoredFile]:
    try:
        reference = parse_reference(text)
    except ValueError as error:
        raise InvalidInput([Problem(field="model", message=f"{error}.", remedy="Name a model you have.")]) from error
    with parts.database.unit_of_work() as work:
        row = work.models.find(user.reach("models.read"), reference)
        if row is None:
            raise not_found(f"model {text}")
        return work.blobs.files_of(row)


def _described(example: Example, outcome: Outcome) -> ChatExample:
    sequences = [_sequence(name, rendered) for name, rendered in outcome.sequences.items()]
    shown = ChatExample(
        row=example.row, kind="text", sequences=sequences, problem=outcome.problem, unwritten=list(outcome.unwritten)
    )
    if isinstance(example, PlainText):
        return shown.model_copy(update={"text": example.text})
    if isinstance(example, Conversation):
        return shown.model_copy(update={"kind": "conversation", "messages": _messages(example.messages)})
    if isinstance(example, Judged):
        messages = _messages(example.messages)
        return shown.model_copy(update={"kind": "judged", "messages": messages, "desirable": example.desirable})
    answers = {"chosen": _messages(example.chosen), "rejected": _messages(example.rejected)}
    return shown.model_copy(update={"kind": "preference", "messages": _messages(example.prompt), **answers})


def _messages(messages: Sequence[Message]) -> list[ChatMessage]:
    return [
        ChatMessage(
            role=message.role,
            content=message.said,
            reasoning=message.reasoning,
            learnt=message.supervised if message.role == "assistant" else None,
        )
        for message in messages
    ]


def _sequence(name: str, rendered: Rendered) -> RenderedSequence:
    pieces = [RenderedPiece(text=piece.text, supervised=piece.supervised) for piece in rendered.pieces]
    return RenderedSequence(name=name, tokens=len(rendered.ids), supervised_tokens=sum(rendered.mask), pieces=pieces)
