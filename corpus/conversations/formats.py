"""Which formats there are, and which of them a data set is in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from corpus.cells import plain
from corpus.conversations import converting
from corpus.conversations.advice import advice_of
from corpus.conversations.column_templates import ColumnTemplate, check_columns, parse_template
from corpus.conversations.examples import Conversation, Example, Judged, Objective, PlainText, Preference
from corpus.conversations.tool_calls import COLUMNS as TOOL_COLUMNS
from corpus.conversations.transcripts import is_transcript
from corpus.conversations.turns import STRICT, TurnRules, checked_conversation, tidied, with_system
from corpus.conversations.values import kind_of, looks_written
from jobspecs.kinds.finetune_llm import ChatData
from jobspecs.problems import InvalidInput, Problem

Shape = Literal["conversation", "preference", "judged", "text"]
Build = Callable[[converting.Row, int, str | None, TurnRules], Example]

#: What each objective reads, the first that fits.
SHAPES: dict[Objective, tuple[Shape, ...]] = {
    "sft": ("conversation", "text"),
    "dpo": ("preference",),
    "orpo": ("preference",),
    "kto": ("judged",),
    "pretrain": ("text",),
}


@dataclass(frozen=True)
class ChatSource:
    """How a data set is to be read. Everything may be left out: the format is then recognised by its columns."""

    format: str | None = None
    #: Texts with {column} places; they stand for columns of these names.
    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    #: A text with {column} places too: the system turn of every conversation that has none.
    system: str | None = None
    rules: TurnRules = STRICT

    @classmethod
    def of(cls, data: ChatData) -> ChatSource:
        """As a job's spec has it."""
        return cls(
            None if data.format == "auto" else data.format,
            data.prompt,
            data.completion,
            data.text,
            data.system,
            TurnRules(data.merge_turns, data.unanswered),
        )


@dataclass(frozen=True)
class Format:
    """One way to write one shape. `turns` are the columns that hold turns, never plain texts.

    `transcripts` are those that hold whole conversations, each as one text.
    """

    name: str
    shape: Shape
    required: tuple[str, ...]
    build: Build
    optional: tuple[str, ...] = ()
    turns: tuple[str, ...] = ()
    transcripts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recognised:
    """The format of a data set, and which columns are read and which are not."""

    format: str
    shape: Shape
    used: tuple[str, ...]
    unused: tuple[str, ...]
    chosen: Format
    templates: tuple[ColumnTemplate, ...]
    system: ColumnTemplate | None
    rules: TurnRules = STRICT

    def convert(self, values: Mapping[str, Any], row: int) -> Example:
        """Raises BadRow."""
        # Bytes that are UTF-8 are that text, as in every kind.
        texts = {name: plain(value) for name, value in values.items() if isinstance(value, bytes)}
        values = {**values, **{name: text for name, text in texts.items() if text is not None}} if texts else values
        filled = {template.field: template.fill(values) for template in self.templates}
        system = self.system.fill(values) if self.system else None
        return self.chosen.build({**values, **filled} if filled else values, row, system, self.rules)


ReadTurns = Callable[[converting.Row], converting.Turns]


def _conversation(turns: ReadTurns, field: str) -> Build:
    def build(values: converting.Row, row: int, system: str | None, rules: TurnRules) -> Example:
        return Conversation(_chat(turns, field, values, system, rules), row, converting.tools_of(values))

    return build


def _preference(read: Callable[[converting.Row], converting.Pair]) -> Build:
    def build(values: converting.Row, row: int, system: str | None, rules: TurnRules) -> Example:
        pair = read(values).checked(rules)
        prompt = with_system(pair.prompt, system)
        return Preference(prompt, pair.chosen, pair.rejected, row, converting.tools_of(values))

    return build


def _judged(turns: ReadTurns, field: str) -> Build:
    def build(values: converting.Row, row: int, system: str | None, rules: TurnRules) -> Example:
        messages = _chat(turns, field, values, system, rules)
        return Judged(messages, converting.label_of(values), row, converting.tools_of(values))

    return build


def _chat(
    turns: ReadTurns, field: str, values: converting.Row, system: str | None, rules: TurnRules
) -> converting.Turns:
    return with_system(checked_conversation(tidied(turns(values), field, rules), field), system)


def _text(values: converting.Row, row: int, system: str | None, rules: TurnRules) -> Example:
    return PlainText(converting.plain_text(values), row)


_ALPACA = ("input", "system", "history")
_BESIDE = ("system", *TOOL_COLUMNS)
#: Format, its columns, how turns are read of them, and the column that answers stand in.
_TURNS: tuple[tuple[str, tuple[str, ...], ReadTurns, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("messages", ("messages",), converting.messages_conversation, "messages", _BESIDE, ("messages",)),
    ("sharegpt", ("conversations",), converting.sharegpt_conversation, "conversations", _BESIDE, ("conversations",)),
    ("alpaca", ("instruction", "output"), converting.alpaca_conversation, "output", _ALPACA, ()),
    ("prompt-completion", ("prompt", "completion"), converting.prompt_completion, "completion", _BESIDE, ()),
)
_CONVERSATIONS = tuple(
    Format(name, "conversation", required, _conversation(turns, field), optional, lists)
    for name, required, turns, field, optional, lists in _TURNS
)
_JUDGED = tuple(
    Format(name, "judged", (*required, "label"), _judged(turns, field), optional, lists)
    for name, required, turns, field, optional, lists in _TURNS
)
_PREFERENCES = (
    Format(
        "messages",
        "preference",
        ("input", "preferred_output", "non_preferred_output"),
        _preference(converting.openai_pair),
        turns=("input",),
    ),
    Format(
        "messages",
        "preference",
        ("messages", "chosen", "rejected"),
        _preference(converting.messages_pair),
        _BESIDE,
        turns=("messages",),
    ),
    Format(
        "sharegpt",
        "preference",
        ("conversations", "chosen", "rejected"),
        _preference(converting.sharegpt_pair),
        _BESIDE,
        ("conversations",),
    ),
    Format("alpaca", "preference", ("instruction", "chosen", "rejected"), _preference(converting.alpaca_pair), _ALPACA),
    Format(
        "transcripts",
        "preference",
        ("chosen", "rejected"),
        _preference(converting.transcript_pair),
        transcripts=("chosen", "rejected"),
    ),
    Format(
        "prompt-completion",
        "preference",
        ("prompt", "chosen", "rejected"),
        _preference(converting.trl_pair),
        _BESIDE,
    ),
    Format(
        "prompt-completion",
        "preference",
        ("chosen", "rejected"),
        _preference(converting.trl_pair),
        _BESIDE,
        turns=("chosen", "rejected"),
    ),
)
#: In the order in which they are tried.
FORMATS = (*_CONVERSATIONS, *_PREFERENCES, *_JUDGED, Format("text", "text", ("text",), _text))
FORMAT_NAMES = tuple(dict.fromkeys(known.name for known in FORMATS))


def recognise(
    columns: Sequence[str], first_rows: Sequence[Mapping[str, Any]], source: ChatSource, objective: Objective
) -> Recognised:
    """The format that has these columns, for what the objective needs.

    `first_rows` tell lists of turns from texts. Raises InvalidInput that names what was found and what is known.
    """
    _check_name(source.format)
    templates = _templates(source, columns)
    present = [*columns, *(template.field for template in templates)]
    for shape in SHAPES[objective]:
        for known in FORMATS:
            fits = known.shape == shape and source.format in (None, known.name)
            if fits and _has_columns(known, present, first_rows, templates):
                return replace(_recognised(known, columns, templates, _system(source, columns)), rules=source.rules)
    raise InvalidInput([_unrecognised(columns, first_rows, source, objective, present)])


def _recognised(
    known: Format, columns: Sequence[str], templates: tuple[ColumnTemplate, ...], system: ColumnTemplate | None
) -> Recognised:
    applied = tuple(template for template in templates if template.field in (*known.required, *known.optional))
    given = {template.field for template in applied}
    read = {name for name in (*known.required, *known.optional) if name not in given}
    read.update(name for template in (*applied, *((system,) if system else ())) for name in template.columns)
    used = tuple(name for name in columns if name in read)
    unused = tuple(name for name in columns if name not in read)
    return Recognised(known.name, known.shape, used, unused, known, applied, system)


def _templates(source: ChatSource, columns: Sequence[str]) -> tuple[ColumnTemplate, ...]:
    given = {"prompt": source.prompt, "completion": source.completion, "text": source.text}
    templates = tuple(parse_template(text, field) for field, text in given.items() if text is not None)
    for template in templates:
        check_columns(template, columns)
    return templates


def _system(source: ChatSource, columns: Sequence[str]) -> ColumnTemplate | None:
    if source.system is None:
        return None
    template = parse_template(source.system, "system")
    check_columns(template, columns)
    return template


def _has_columns(
    known: Format,
    present: Sequence[str],
    first_rows: Sequence[Mapping[str, Any]],
    templates: tuple[ColumnTemplate, ...],
) -> bool:
    if not set(known.required) <= set(present):
        return False
    # A format that reads none of the templates is not what the templates were written for.
    if templates and not {template.field for template in templates} & set(known.required):
        return False
    if not first_rows:
        return not known.transcripts
    return all(any(_may_be_turns(row.get(name)) for row in first_rows) for name in known.turns) and all(
        is_transcript(row.get(name)) for name in known.transcripts for row in first_rows[:1]
    )


def _may_be_turns(value: Any) -> bool:
    """Lists, objects, and either as JSON within a text."""
    return isinstance(value, list | dict) or looks_written(value)


def _check_name(name: str | None) -> None:
    if name is not None and name not in FORMAT_NAMES:
        problem = Problem(
            field="format", message=f"{name!r} is not a format.", remedy=f"Use one of: {', '.join(FORMAT_NAMES)}."
        )
        raise InvalidInput([problem])


def _unrecognised(
    columns: Sequence[str],
    first_rows: Sequence[Mapping[str, Any]],
    source: ChatSource,
    objective: Objective,
    present: Sequence[str],
) -> Problem:
    kinds = first_rows[0] if first_rows else {}
    found = ", ".join(f"{name} ({kind_of(kinds[name])})" if name in kinds else name for name in columns)
    wanted = [
        known
        for known in FORMATS
        if known.shape in SHAPES[objective] and (source.format is None or known.name == source.format)
    ]
    ways = "; ".join(f"{known.name}: {', '.join(known.required)}" for known in wanted)
    of_format = f" in the format {source.format}" if source.format else ""
    seen = f" in the first {len(first_rows)} rows" if any(value is None for value in kinds.values()) else ""
    message = f"the columns {found} are not data for {objective}{of_format}{seen}."
    asks = SHAPES[objective][0] in ("conversation", "judged")
    advice = _other_objective(objective, present) or advice_of(columns, kinds, asks)
    return Problem(field="dataset", message=message, remedy=f"{advice}Known: {ways or 'none'}.")


def _other_objective(objective: Objective, present: Sequence[str]) -> str:
    fitting = {known.shape for known in FORMATS if set(known.required) <= set(present)}
    unlike = {name: shapes for name, shapes in SHAPES.items() if not set(shapes) <= set(SHAPES[objective])}
    others = [name for name, shapes in unlike.items() if fitting & (set(shapes) - set(SHAPES[objective]))]
    return f"They fit objective {' or '.join(others)}. " if others else ""
