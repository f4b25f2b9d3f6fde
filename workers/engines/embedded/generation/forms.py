"""Answers of a given form: before each token, the tokens that keep to it are told, and only they can be chosen.

The form is a JSON schema or a regular expression; llguidance follows it (Earley's algorithm over derivatives of regular
expressions: nothing is compiled ahead for the vocabulary, so a form costs milliseconds, and no expression explodes).
The mask depends on the tokens alone: a seed gives the same text each time.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from workers.engines.embedded.batching import as_exception
from workers.engines.embedded.generation.language_model import LanguageModel

#: Characters of a form as it is written: a schema of 3,000 fields with patterns had 205,000, and took 0.6 s.
FORM_CHARS_MAX = 100_000
#: Of `multipleOf` in a schema.
MULTIPLE_MAX = 1000
#: Seconds that preparing a form may take.
_PREPARING_S = 5.0
#: Forms that are kept prepared: clients send the same one with each request.
_KEPT = 16
#: A quarter of what the library allows itself, or less. The worst expressions that were tried then took 24 ms a token,
#: with a vocabulary of 512; a state takes 1 to 2 kB, as the library says.
_LIMITS = LLParserLimits(
    initial_lexer_fuel=500_000,
    step_lexer_fuel=50_000,
    step_max_items=12_500,
    max_lexer_states=60_000,
    max_grammar_size=100_000,
)
#: Where in the library's own notation something is wrong: nobody's business.
_PLACE = re.compile(r"^at \d+\(\d+\): (failed to compile JSON schema: )?")
#: White space is as `json.dumps` writes it: where any may stand, small models write nothing else.
_JSON = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class FormRefused(ValueError):
    """No answers of this form can be given; the message begins with the field of the request."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field


@dataclass(frozen=True)
class Form:
    """What an answer shall look like. `field`: of the request that asks for it; `grammar`: in llguidance's notation."""

    field: str
    grammar: str

    @classmethod
    def of_schema(cls, field: str, schema: Mapping[str, Any] | bool, before: str = "", after: str = "") -> Form:
        """A JSON schema, with texts around it. Raises FormRefused when it is too large, or nothing is of it."""
        if schema is False:
            raise FormRefused(field, "nothing is of this form.")
        kept = {**schema} if isinstance(schema, Mapping) else {}
        _check_size(field, text := json.dumps({**kept, "x-guidance": _JSON}))
        _check_multiples(field, schema)
        around = [json.dumps(before)] * bool(before), [json.dumps(after)] * bool(after)
        return cls(field, f"start: {' '.join([*around[0], 'document', *around[1]])}\ndocument: %json {text}")

    @classmethod
    def of_regex(cls, field: str, expression: str) -> Form:
        """A regular expression, which the whole answer matches. Raises FormRefused when it is too large."""
        _check_size(field, expression)
        return cls(field, LLMatcher.grammar_from_regex(expression))

    @classmethod
    def of_choice(cls, field: str, texts: Sequence[str]) -> Form:
        """One of these texts. Raises FormRefused when they are too large."""
        _check_size(field, "".join(texts))
        return cls(field, LLMatcher.grammar_from_lark("start: " + " | ".join(map(json.dumps, texts))))


def _check_size(field: str, text: str) -> None:
    if len(text) > FORM_CHARS_MAX:
        raise FormRefused(field, f"it has {len(text):,} characters; {FORM_CHARS_MAX:,} at most are read.")


def _check_multiples(field: str, schema: Any) -> None:
    """The library counts in as many states as the number says: no limit of its own ended 9,999,991 within 25 s."""
    unseen = [schema]
    while unseen:
        part = unseen.pop()
        if isinstance(part, Mapping):
            step = part.get("multipleOf")
            if isinstance(step, int | float) and not (1 <= step <= MULTIPLE_MAX and step == int(step)):
                raise FormRefused(field, f"multipleOf may be a whole number up to {MULTIPLE_MAX:,}.")
            unseen.extend(part.values())
        elif isinstance(part, list):
            unseen.extend(part)


def _plain_decoder(decoder: Any) -> Any:
    """ByteLevel alone where it is one of several, as in tokenizers made of a GGUF.

    The library takes their first one for the whole and then knows no token that begins with a space.
    """
    several = decoder.get("decoders") if isinstance(decoder, dict) else None
    return next((one for one in several or () if one.get("type") == "ByteLevel"), decoder)


@dataclass(frozen=True)
class Grammar:
    """A form that is prepared for one model: any number of answers can follow it at once."""

    _matcher: LLMatcher

    def begin(self) -> Following:
        """For one answer."""
        return Following(self._matcher.deep_copy())


class Following:
    """How far one answer has followed its form. For one thread at a time."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def narrowed(self, logits: torch.Tensor) -> torch.Tensor:
        """`logits` (vocabulary,) without the tokens that would leave the form. Raises RuntimeError past a limit."""
        bias = self._matcher.compute_logit_bias()
        self._check()
        allowed = torch.zeros(len(logits), dtype=torch.bool)
        # A model may have more rows than its tokenizer has tokens.
        known = torch.frombuffer(bytearray(bias), dtype=torch.uint8)[: len(logits)]
        allowed[: len(known)] = known > 0
        return logits.masked_fill(~allowed, float("-inf"))

    def take(self, token: int) -> None:
        """The token that was chosen."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise RuntimeError(f"the form can't be followed: {self._matcher.get_error().partition(chr(10))[0]}")


class Forms:
    """Prepares forms for one model, on a thread of its own."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forms")
        self._tokenizer: LLTokenizer | None = None
        self._kept: OrderedDict[str, Grammar] = OrderedDict()
        self._preparing_since_s: float | None = None

    async def prepared(self, form: Form) -> Grammar:
        """Raises FormRefused, in words, for a form that is wrong, too large, or takes too long."""
        working = asyncio.get_running_loop().run_in_executor(self._thread, self._prepare, form)
        try:
            return await asyncio.wait_for(working, _PREPARING_S)
        except TimeoutError as error:
            raise FormRefused(form.field, f"it takes more than {_PREPARING_S:g} s to prepare. Simplify it.") from error

    def stuck_s(self) -> float:
        """For how long the present form has been prepared, in seconds."""
        since_s = self._preparing_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, form: Form) -> Grammar:
        self._preparing_since_s = time.monotonic()
        try:
            return self._made(form)
        finally:
            self._preparing_since_s = None

    def _made(self, form: Form) -> Grammar:
        if (known := self._kept.get(form.grammar)) is not None:
            self._kept.move_to_end(form.grammar)
            return known
        try:
            matcher = LLMatcher(self._for_the_model(form.field), form.grammar, log_level=0, limits=_LIMITS)
            # Some limits show with the first token only.
            first = matcher.deep_copy()
            first.compute_logit_bias()
        except FormRefused:
            raise
        except BaseException as error:
            raise as_exception(error) from None
        if first.is_error():
            why = _PLACE.sub("", first.get_error().partition("\n")[0])
            raise FormRefused(form.field, f"no answer of this form can be written: {why}.")
        grammar = Grammar(matcher)
        self._kept[form.grammar] = grammar
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return grammar

    def _for_the_model(self, field: str) -> LLTokenizer:
        """The model's tokens, as bytes in a tree: read once."""
        if self._tokenizer is None:
            tokenizer = self._model.tokenizer
            if not tokenizer.is_fast or not self._model.end_tokens:
                raise FormRefused(field, "this model's tokenizer has no tokenizer.json or no token that ends a text.")
            document = json.loads(tokenizer.backend_tokenizer.to_str())
            document["decoder"] = _plain_decoder(document.get("decoder"))
            text = json.dumps({**document, "truncation": None, "padding": None})
            ends = sorted(self._model.end_tokens)
            self._tokenizer = LLTokenizer(text, n_vocab=self._model.vocabulary_size, eos_token=ends)
        return self._tokenizer
