"""`finetune-llm`: conversations, preferences, judged answers or texts, counted as the model's template renders them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import numpy as np

from corpus.checks.findings import Findings
from corpus.checks.reader import Reader
from corpus.checks.remarks import Remark, remarks_of_text
from corpus.checks.rows import CheckedFile, Rows, UsableRow
from corpus.conversations.cutting import cut, teaches, tokens_needed
from corpus.conversations.examples import Example, Message, PlainText, messages_of
from corpus.conversations.formats import ChatSource, Recognised
from corpus.conversations.identity import content_and_prompt, sequences_of
from corpus.conversations.reading import read_examples
from corpus.conversations.rendering import Rendered, Renderer, Treatment
from corpus.conversations.transcripts import is_spoken
from corpus.conversations.unread import unread_fields
from corpus.dealing import example_split
from corpus.splits import SplitRows
from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.problems import InvalidInput, Problem

#: What templates that write the date are told.
_STILL = datetime(2026, 1, 1)
_UNUSED = "If one of them is to be learnt, name it in data.prompt, data.completion or data.system."
#: Characters per token, and tokens around each turn, where the model has no tokenizer to ask.
_CHARS_PER_TOKEN, _TOKENS_PER_TURN = 4, 5


class LlmData:
    """Implements `corpus.checks.rows.Validator`. A leak is a held-out prompt or text that is trained on."""

    split_unit, classes = "row", False
    max_length_field = "training.max_length"

    def __init__(self, spec: FinetuneLlm, reader: Reader) -> None:
        self._spec = spec
        self._reader = reader
        self._renderer: Renderer | None = None
        #: Columns that nobody reads, in their order.
        self._unused: dict[str, None] = {}
        self.unit = "text" if spec.objective == "pretrain" else "conversation"
        self.max_length = spec.training.max_length
        self.max_length_chosen = "max_length" in spec.training.model_fields_set
        self.batch_size: int | None = spec.training.batch_size
        self.skips_bad_rows = spec.data.bad_rows == "skip"

    def rows(self, file: CheckedFile) -> Rows:
        """Raises InvalidInput as well when the model has no chat template that can be used."""
        self._renderer = _renderer(self._reader, self._spec.data.control_tokens)
        refused: deque[Problem] = deque()
        examples = read_examples(
            file.path,
            file.fmt,
            ChatSource.of(self._spec.data),
            objective=self._spec.objective,
            file_name=file.name,
            on_problem=refused.append,
            on_recognised=self._recognised,
        )
        yield from _in_order(examples, refused, self._row)

    def _recognised(self, recognised: Recognised) -> None:
        self._unused.update(dict.fromkeys(recognised.unused))

    def split(self, found: Findings) -> SplitRows:
        """Raises InvalidInput as well when nothing is learnt of the rows that choose."""
        sections = (self._spec.validation, self._spec.test)
        named = [section.column for section in sections if section is not None]
        unused = [name for name in self._unused if name not in named]
        if unused:
            message = f"columns that are not read: {', '.join(unused)}."
            found.warnings.append(Problem(field="dataset", message=message, remedy=_UNUSED))
        split = example_split(self._spec, found.roles, found.tied_texts())
        if self._spec.training.looks and len(split.choosing) and np.isin(split.choosing, found.unlearnable).all():
            message = (
                f"all {len(split.choosing):,} rows that choose begin their answers after {self.max_length} tokens: "
                "there is nothing to look at while it trains."
            )
            remedy = "Raise training.max_length, or name other rows."
            raise InvalidInput([Problem(field="validation", message=message, remedy=remedy)])
        return split

    def _row(self, example: Example) -> UsableRow:
        """Raises InvalidInput when the template refuses the turns."""
        content, prompt = content_and_prompt(example)
        parts = list(self._renderer.example(example).values()) if self._renderer is not None else None
        return UsableRow(
            example.row,
            self._lengths(example, parts),
            content=content,
            guarded=prompt,
            tied=(f"content {content}", prompt),
            remarks=self._remarks(example),
            tokens_needed=self._tokens_needed(parts or []),
        )

    def _tokens_needed(self, parts: Sequence[Rendered]) -> int | None:
        """None where the job's length leaves something to learn, or nobody can tell."""
        length = min(self.max_length, self._reader.max_tokens or self.max_length)
        if not parts or teaches([piece for part in parts for piece in cut(part, self._spec, length)]):
            return None
        return tokens_needed(parts, self._spec)

    def _remarks(self, example: Example) -> list[Remark]:
        remarks = [
            Remark("dataset", f"the field {name} of turns is not read.", "Remove it, if nothing of it is to be learnt.")
            for name in unread_fields(example)
        ]
        texts = [example.text] if isinstance(example, PlainText) else [m.content for m in messages_of(example)]
        remarks += [remark for text in texts for remark in remarks_of_text(text.strip(), "dataset", cell=False)]
        if self._spec.objective == "sft" and isinstance(example, PlainText) and is_spoken(example.text):
            remedy = "Write the turns as messages, unless that is meant."
            remarks.append(Remark("dataset", "a text holds a whole chat: what users say is learnt as well.", remedy))
        if self._renderer is not None:
            message = "the model's chat template does not write {}, so it is not learnt."
            remedy = "Write it into the content, or take a model whose template knows it."
            remarks += [Remark("dataset", message.format(name), remedy) for name in self._renderer.unwritten(example)]
            remarks += [
                _control_remark(token, self._spec.data.control_tokens)
                for token in self._renderer.control_tokens(example)
            ]
        return remarks

    def _lengths(self, example: Example, parts: Sequence[Rendered] | None) -> list[int]:
        if parts is None:
            return [_estimate(turns) for turns in sequences_of(example)]
        lengths = [len(rendered.ids) for rendered in parts]
        if self._spec.objective != "pretrain":
            return lengths
        # Long texts are not cut but become several sequences.
        return [
            min(self.max_length, length - start) for length in lengths for start in range(0, length, self.max_length)
        ]


def _in_order(examples: Iterator[Example], refused: deque[Problem], make: Callable[[Example], UsableRow]) -> Rows:
    """Usable and refused rows in the order of the file; what `make` raises refuses one too."""
    for example in examples:
        while refused:
            yield refused.popleft()
        try:
            yield make(example)
        except InvalidInput as error:
            problem = error.problems[0]
            yield problem if problem.row is not None else problem.model_copy(update={"row": example.row})
    yield from refused


def _control_remark(token: str, treatment: Treatment) -> Remark:
    if treatment == "keep":
        message = f"texts hold the control token {token}, which is kept: turns end or begin where it stands."
        return Remark("data.control_tokens", message, "Write control_tokens: text, unless that is meant.")
    message = f"texts hold the control token {token}, which is read as its letters."
    return Remark("data.control_tokens", message, "Remove it, or write control_tokens: keep if it is meant as one.")


def _renderer(reader: Reader, treatment: Treatment) -> Renderer | None:
    """None without a tokenizer: then tokens are estimated."""
    if reader.tokenizer is None or reader.folder is None:
        return None
    return Renderer.load(reader.folder, clock=lambda: _STILL, treatment=treatment)


def _estimate(turns: tuple[Message, ...] | str) -> int:
    if isinstance(turns, str):
        return len(turns) // _CHARS_PER_TOKEN + 1
    return sum(len(message.said) // _CHARS_PER_TOKEN + _TOKENS_PER_TURN for message in turns)
