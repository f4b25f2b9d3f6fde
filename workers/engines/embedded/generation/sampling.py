"""Which token comes next: greedy or drawn, after penalties, temperature, top-k and nucleus sampling.

The order is that of `transformers`: penalties, temperature, top-k, top-p. Nucleus sampling: Holtzman et al. 2020,
arXiv:1904.09751; the repetition penalty: Keskar et al. 2019, arXiv:1909.05858.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


class Following(Protocol):
    """How far one answer has followed its form."""

    def narrowed(self, logits: torch.Tensor) -> torch.Tensor:
        """`logits` (vocabulary,) with -inf for each token that would leave the form."""

    def take(self, token: int) -> None:
        """The token that was chosen."""


class Grammar(Protocol):
    """A form that answers can keep to."""

    def begin(self) -> Following:
        """For one answer."""


#: Tokens that are put in order first, where only the most probable ones count.
_FIRST_SORTED = 256


@dataclass(frozen=True)
class Sampling:
    """How one text is generated."""

    #: Tokens of the answer at most.
    max_tokens: int
    #: 0: always the most probable token.
    temperature: float = 1.0
    #: Draw from the most probable tokens whose probabilities add up to this; 1: from all, 0: take the most probable.
    top_p: float = 1.0
    #: Draw from so many of the most probable tokens; 0: from all.
    top_k: int = 0
    #: Equal seeds give equal texts; None: a random one.
    seed: int | None = None
    #: The text ends before the first of these.
    stop: tuple[str, ...] = ()
    #: Divides (or multiplies, below 0) the logits of tokens that occurred in prompt or answer; 1: none.
    repetition_penalty: float = 1.0
    #: Taken off the logit of a token for each time that it occurs in the answer.
    frequency_penalty: float = 0.0
    #: Taken off the logit of each token that occurs in the answer.
    presence_penalty: float = 0.0
    #: How many of the most probable tokens are reported beside each token.
    top_logprobs: int = 0
    #: The prompt is part of the text.
    echo: bool = False
    #: And its tokens have log probabilities too.
    scores_echo: bool = False
    #: (token, what is added to its logit): -100 rules a token out, 100 rules out the others.
    logit_bias: tuple[tuple[int, float], ...] = ()
    #: The answer keeps to it.
    grammar: Grammar | None = None


@dataclass(frozen=True)
class Choice:
    """A token and its log probability (nats) under the model itself, before temperature and cuts.

    None: nobody asked for it, or nothing is before the token.
    """

    token: int
    logprob: float | None
    #: The most probable tokens, best first.
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Chooses the tokens of one answer; keeps what the penalties and the dice need."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._sampling = sampling
        self.seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
        # On the CPU always: a seed then means the same text whatever computed the logits.
        self._dice = torch.Generator().manual_seed(self.seed)
        self._seen = set(prompt)
        self._written: Counter[int] = Counter()
        self._form = sampling.grammar.begin() if sampling.grammar is not None else None

    def choose(self, logits: torch.Tensor) -> Choice:
        """`logits`: (vocabulary,), any device and type."""
        plain = logits.detach().to("cpu", torch.float32)
        logprobs = torch.log_softmax(plain, dim=-1)
        wanted = self._penalized(plain)
        token = self._draw(wanted if self._form is None else self._form.narrowed(wanted))
        if self._form is not None:
            self._form.take(token)
        self._seen.add(token)
        self._written[token] += 1
        return Choice(token, float(logprobs[token]), self._top(logprobs))

    def given(self, logits: torch.Tensor | None, token: int) -> Choice:
        """A token that is not chosen but given; `logits`: as in `choose`, of what is before it."""
        if logits is None:
            return Choice(token, None)
        logprobs = torch.log_softmax(logits.detach().to("cpu", torch.float32), dim=-1)
        return Choice(token, float(logprobs[token]), self._top(logprobs))

    def _top(self, logprobs: torch.Tensor) -> tuple[tuple[int, float], ...]:
        if not self._sampling.top_logprobs:
            return ()
        values, tokens = logprobs.topk(min(self._sampling.top_logprobs, len(logprobs)))
        return tuple(zip(tokens.tolist(), values.tolist(), strict=True))

    def _penalized(self, logits: torch.Tensor) -> torch.Tensor:
        wishes = self._sampling
        if wishes.repetition_penalty != 1.0 and self._seen:
            tokens = torch.tensor(sorted(self._seen))
            values = logits[tokens]
            softer = torch.where(values < 0, values * wishes.repetition_penalty, values / wishes.repetition_penalty)
            logits = logits.index_copy(0, tokens, softer)
        if self._written and (wishes.frequency_penalty or wishes.presence_penalty):
            tokens = torch.tensor(list(self._written))
            counts = torch.tensor(list(self._written.values()), dtype=torch.float32)
            logits = logits.index_add(0, tokens, -(counts * wishes.frequency_penalty + wishes.presence_penalty))
        if wishes.logit_bias:
            biased, added = zip(*wishes.logit_bias, strict=True)
            logits = logits.index_add(0, torch.tensor(biased), torch.tensor(added, dtype=torch.float32))
        return logits

    def _draw(self, logits: torch.Tensor) -> int:
        wishes = self._sampling
        if wishes.temperature == 0 or wishes.top_k == 1 or wishes.top_p == 0:
            return int(logits.argmax())
        logits = logits / wishes.temperature
        if 0 < wishes.top_k < len(logits):
            logits = logits.masked_fill(logits < logits.topk(wishes.top_k).values[-1], float("-inf"))
        probabilities = torch.softmax(logits, dim=-1)
        if wishes.top_p < 1.0:
            ordered, tokens = _most_probable(probabilities, wishes.top_p)
            # A token stays when those before it do not reach the sum yet: the first one always does.
            kept = ordered.cumsum(0) - ordered < wishes.top_p
            return int(tokens[self._drawn(ordered * kept)])
        return self._drawn(probabilities)

    def _drawn(self, weights: torch.Tensor) -> int:
        """A place in proportion to its weight. `multinomial` throws a number for each: 1.2 ms for 49,152 of them."""
        sums = weights.cumsum(0, dtype=torch.float64)
        total = float(sums[-1])
        if not total > 0:
            raise RuntimeError("the model gives no probabilities: its logits are not numbers")
        thrown = min(float(torch.rand((), generator=self._dice, dtype=torch.float64)) * total, math.nextafter(total, 0))
        return int(torch.searchsorted(sums, thrown, right=True))


def _most_probable(probabilities: torch.Tensor, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities, descending, and tokens: as many as make up the share, or more. Equal ones as the tokens stand.

    All of 49,152 take 4.5 ms to be put in order; the first 256 make up most shares.
    """
    count = _FIRST_SORTED
    while count < len(probabilities):
        least = probabilities.topk(count).values[-1]
        tokens = (probabilities >= least).nonzero()[:, 0]
        if float(probabilities[tokens].sum()) > share:
            ordered, places = probabilities[tokens].sort(descending=True, stable=True)
            return ordered, tokens[places]
        count *= 16
    ordered, tokens = probabilities.sort(descending=True, stable=True)
    return ordered, tokens
