"""How far a model is from the one that it was made from: the same texts, the same tokens, both distributions.

Kullback-Leibler divergence of the original's distribution of the next token from the other's, in nats, and how often
both would say the same token. Whole texts are resampled, in pairs: a text that is hard for one is hard for the other.

Notation: N texts, T tokens of a text, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from corpus.bootstrap import Between, Floats, bootstrapped_means, interval, no_stop
from workers.judging.llm_verdict import Figure, perplexity
from workers.local_models.tokens import Int64s

#: Rows of logits of both models that are compared at once: 64 of 49,152 in fp64 are 25 MB.
_ROWS = 64


@dataclass(frozen=True)
class Sums:
    """Of each of N texts, sums over its predicted tokens: all (N,). Losses and divergence in nats."""

    tokens: Floats
    loss_before: Floats
    loss_after: Floats
    divergence: Floats
    agreed: Floats


@dataclass(frozen=True)
class Cost:
    """What a change of the weights costs, each figure with its 95 % interval. Losses in nats per token."""

    texts: int
    tokens: int
    before: Figure
    after: Figure
    #: After less before.
    difference: Figure
    divergence: Figure
    #: Share of tokens at which both find the same one most probable.
    agreement: Figure

    def as_json(self) -> dict[str, Any]:
        """Plain JSON for manifests and reports."""
        figures = {"loss": self.after, "baseline_loss": self.before, "loss_difference": self.difference}
        perplexities = {"perplexity": _exp(self.after), "baseline_perplexity": _exp(self.before)}
        measured = {**perplexities, **figures, "kl_divergence": self.divergence, "agreement": self.agreement}
        return {"texts": self.texts, "tokens": self.tokens, **{name: vars(one) for name, one in measured.items()}}

    def metrics(self, part: str) -> dict[str, float]:
        """Named figures, with the ends of their intervals."""
        named = {
            f"{part}/perplexity": _exp(self.after),
            f"{part}/kl_divergence": self.divergence,
            f"{part}/agreement": self.agreement,
        }
        found = {f"{name}{end}": value for name, one in named.items() for end, value in _ends(one).items()}
        return {**found, "baseline/perplexity": perplexity(self.before.value)}


def _ends(figure: Figure) -> dict[str, float]:
    return {"": figure.value, "_low": figure.low, "_high": figure.high}


def _exp(figure: Figure) -> Figure:
    return Figure(*(perplexity(nats) for nats in (figure.value, figure.low, figure.high)))


Logits = Callable[[Int64s], torch.Tensor]


def logits_of(model: PreTrainedModel) -> Logits:
    """What gives the logits (T, V) of a text (T,), in fp32, without gradients."""

    def compute(ids: Int64s) -> torch.Tensor:
        with torch.inference_mode():
            found = model(input_ids=torch.from_numpy(ids)[None].to(model.device), use_cache=False).logits[0]
        return found.float().cpu()

    return compute


def sums_of(before: Logits, after: Logits, texts: Sequence[Int64s], done: Callable[[int], None]) -> Sums:
    """Asks both models about every text. `done` is told how many are; it may raise to stop.

    Rows of a vocabulary that only one has are left out of both. Raises ValueError where logits are not finite.
    """
    found = np.zeros((5, len(texts)))
    for place, ids in enumerate(texts):
        found[:, place] = _of_text(before(ids), after(ids), torch.from_numpy(ids))
        done(place + 1)
    return Sums(*found)


def _of_text(before: torch.Tensor, after: torch.Tensor, ids: torch.Tensor) -> Floats:
    total = np.zeros(5)
    width = min(before.shape[-1], after.shape[-1])
    targets = ids[1:]
    for start in range(0, len(targets), _ROWS):
        rows = slice(start, min(start + _ROWS, len(targets)))
        first, second = (one[rows, :width].double().log_softmax(-1) for one in (before, after))
        chosen = targets[rows, None]
        sums = (
            torch.tensor(float(len(chosen))),
            -first.gather(1, chosen).sum(),
            -second.gather(1, chosen).sum(),
            (first.exp() * (first - second)).sum(),
            (first.argmax(-1) == second.argmax(-1)).sum(),
        )
        total += np.array([float(value) for value in sums])
    if not np.isfinite(total).all():
        raise ValueError("its logits are not finite.")
    return total


def cost_of(sums: Sums, between: Between = no_stop) -> Cost:
    """The figures, and their intervals over texts. `between` is called between resamples, and may raise to stop."""
    table = np.stack([sums.tokens, sums.loss_before, sums.loss_after, sums.divergence, sums.agreed])
    means = bootstrapped_means(table, between)
    per_token, resampled = table.sum(axis=1) / table[0].sum(), means / means[0]

    def figure(place: int) -> Figure:
        return Figure(float(per_token[place]), *interval(resampled[place]))

    difference = Figure(float(per_token[2] - per_token[1]), *interval(resampled[2] - resampled[1]))
    return Cost(
        texts=len(sums.tokens),
        tokens=int(sums.tokens.sum()),
        before=figure(1),
        after=figure(2),
        difference=difference,
        divergence=figure(3),
        agreement=figure(4),
    )
