"""Loads what was made of a model in its engine and compares it with its source: tokens, ends of answers, numbers.

Notation: T tokens of a text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from jobspecs.lifecycle import Reason
from jobspecs.verification import Cause, Verification, VerificationState
from workers.local_models.tokens import Int64s
from workers.parity.diagnosis import Weights, cause_of
from workers.parity.limits import Limits
from workers.parity.sides import EmbeddedSide, Side
from workers.run.context import RunFailed

CONVERSATIONS: tuple[tuple[Mapping[str, str], ...], ...] = (
    ({"role": "user", "content": "What is the capital of France?"},),
    (
        {"role": "user", "content": "Add 17 and 25."},
        {"role": "assistant", "content": "42"},
        {"role": "user", "content": "Thank you!\nAnd now 3 times that?"},
    ),
)
#: Letters, numbers, spaces, marks, code and other scripts: where tokenizers differ.
TEXTS = (
    "The committee will meet again on 14 March 2027, at 9:30, in room 1105.",
    "def area(radius):\n    return 3.14159 * radius ** 2  # in m²\n",
    "Übergrößen kosten 12,50 € mehr – „leider“, sagte sie.",
    "    two  spaces,\ttabs, 1234567 and don't we'll they'VE",
    "東京は日本の首都です。 Привет, мир! 🙂",
)
#: Tokens of each text whose next one is compared, and texts of the caller's own.
_TOKENS_MAX, _OWN_TEXTS = 40, 4
#: Where the divergence after a first token is a larger share of that after others, the fault is there from it on.
_FIRST_SHARE = 0.1


@dataclass(frozen=True)
class Candidate:
    """What was made, and how to look at it. `open` loads it in its engine; it raises RunFailed where it can't be."""

    engine: str
    open: Callable[[], Side]
    #: Rows of the input embeddings in its file.
    vocabulary: int
    #: The model in this process, for whoever has to find out what is wrong with it.
    weights: Callable[[], Weights]


@dataclass(frozen=True)
class Comparison:
    """What the gate found. `kl_divergence` in nats per token, `agreement` from 0 to 1; None: it did not come so far."""

    verification: Verification
    kl_divergence: float | None = None
    agreement: float | None = None
    positions: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain JSON for manifests and reports."""
        figures = {"kl_divergence": self.kl_divergence, "agreement": self.agreement, "positions": self.positions}
        return {**self.verification.model_dump(mode="json"), **figures}


class _Breach(Exception):
    """What is wrong with the version, of which nothing more need be looked at."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause
        self.message = message


@dataclass(frozen=True)
class Numbers:
    """By position of all texts, (P,): divergence in nats, and whether both find the same token most probable.

    `first` (P,): the position is a text's first.
    """

    divergence: np.ndarray[Any, np.dtype[np.float64]]
    agreed: np.ndarray[Any, np.dtype[np.bool_]]
    first: np.ndarray[Any, np.dtype[np.bool_]]


def compare(
    source: EmbeddedSide,
    candidate: Candidate,
    limits: Limits,
    *,
    texts: Sequence[str] = (),
    between: Callable[[], None] = lambda: None,
) -> Comparison:
    """`texts`: some of the caller's own, beside the gate's. `between` is called often, and may raise to stop.

    Raises RunFailed for what is no fault of the version, such as too little memory.
    """
    try:
        return _compared(source, candidate, limits, [*TEXTS, *texts[:_OWN_TEXTS]], between)
    except _Breach as breach:
        return Comparison(_unverified(candidate, breach))


def _compared(
    source: EmbeddedSide, candidate: Candidate, limits: Limits, texts: Sequence[str], between: Callable[[], None]
) -> Comparison:
    expected = source.model.vocabulary_size
    if candidate.vocabulary < expected:
        raise _Breach(Cause.vocabulary, f"it has {candidate.vocabulary:,} rows of embeddings; its source {expected:,}.")
    target = _opened(candidate)
    try:
        _check_tokens(source, target, texts)
        _check_ends(source, target)
        numbers = _numbers(source, target, texts, between)
    finally:
        target.close()
    divergence, agreement = float(numbers.divergence.mean()), float(numbers.agreed.mean())
    verification = Verification(state=VerificationState.verified, engine=candidate.engine)
    # Written so that a divergence that is no number is none that is small enough.
    if not (divergence <= limits.kl_divergence and agreement >= limits.agreement):
        verification = _unverified(candidate, _explained(source, candidate, limits, numbers, texts))
    return Comparison(verification, divergence if math.isfinite(divergence) else None, agreement, len(numbers.first))


def _opened(candidate: Candidate) -> Side:
    try:
        return candidate.open()
    except RunFailed as error:
        if error.reason is not Reason.invalid_model:
            raise
        raise _Breach(Cause.load, error.message) from error


def _check_tokens(source: Side, target: Side, texts: Sequence[str]) -> None:
    for text in texts:
        wanted, found = source.encode(text), _encoded(target, text)
        if wanted != found:
            place = _first_difference(wanted, found)
            told = f"{text[:60]!r} becomes {len(found)} tokens, of its source {len(wanted)}"
            raise _Breach(Cause.tokenizer, f"{told}, and differs from token {place} on.")
    for messages in CONVERSATIONS:
        prompt, made = source.chat(messages), target.chat(messages)
        if prompt != made:
            said = "it knows no conversations" if made is None else "a conversation becomes other tokens"
            if made is not None and prompt is not None:
                said += f", from token {_first_difference(prompt, made)} of {len(prompt)} on"
            raise _Breach(Cause.template, f"{said}: its chat template is not its source's.")


def _encoded(target: Side, text: str) -> list[int]:
    try:
        return target.encode(text)
    except RunFailed as error:
        raise _Breach(Cause.tokenizer, f"{text[:60]!r} becomes no tokens at all: {error.message}") from error


def _first_difference(wanted: Sequence[int], found: Sequence[int]) -> int:
    same = (one == other for one, other in zip(wanted, found, strict=False))
    return next((place for place, equal in enumerate(same, start=1) if not equal), min(len(wanted), len(found)) + 1)


def _check_ends(source: EmbeddedSide, target: Side) -> None:
    for token in sorted(source.model.end_tokens):
        if not target.ends_at(token):
            name = source.model.token_text(token)
            raise _Breach(Cause.end_token, f"answers don't end at {name!r} ({token}), where its source's do.")


def _numbers(source: EmbeddedSide, target: Side, texts: Sequence[str], between: Callable[[], None]) -> Numbers:
    divergence, agreed, first = list[float](), list[bool](), list[bool]()
    prompts = [prompt for messages in CONVERSATIONS if (prompt := source.chat(messages)) is not None]
    for ids in [*(source.encode(text) for text in texts), *prompts]:
        between()
        ids = ids[:_TOKENS_MAX]
        wanted = source.log_probs(ids)
        for place, told in enumerate(target.next_tokens(ids)):
            divergence.append(_divergence(wanted[place], told))
            agreed.append(int(wanted[place].argmax()) == max(told, key=lambda token: told[token]))
            first.append(place == 0)
    return Numbers(np.array(divergence), np.array(agreed), np.array(first))


def _divergence(wanted: torch.Tensor, told: Mapping[int, float]) -> float:
    """KL of both distributions over the tokens that are told and all others together: at most that over all tokens."""
    tokens = [token for token in told if token < len(wanted)]
    source = wanted[tokens].exp()
    other = torch.tensor([told[token] for token in tokens], dtype=torch.float64)
    known = float((source * (wanted[tokens] - other)).sum())
    rest, others_rest = (max(1e-9, 1.0 - float(part.sum())) for part in (source, other.exp()))
    return known + rest * math.log(rest / others_rest)


def _explained(
    source: EmbeddedSide, candidate: Candidate, limits: Limits, numbers: Numbers, texts: Sequence[str]
) -> _Breach:
    first = float(numbers.divergence[numbers.first].mean())
    rest = float(numbers.divergence[~numbers.first].mean())
    ids: Int64s = np.array(source.encode(texts[0])[:_TOKENS_MAX], dtype=np.int64)
    right_first = first < _FIRST_SHARE * rest
    cause, why = cause_of(candidate.weights(), ids, first_is_right=right_first)
    figures = f"KL {numbers.divergence.mean():.3g} nats per token and {numbers.agreed.mean():.0%} equal greedy tokens"
    allowed = f"{limits.kl_divergence:g} at most and {limits.agreement:.0%} at least are allowed"
    return _Breach(cause, f"{why} {figures}; {allowed}.")


def _unverified(candidate: Candidate, breach: _Breach) -> Verification:
    return Verification(
        state=VerificationState.unverified, cause=breach.cause, engine=candidate.engine, message=breach.message[:1000]
    )
