"""Was the fine-tuning worth it? Loss on held-out answers before and after, and for preferences how far they are kept.

Intervals are of a bootstrap over held-out rows, base and result resampled together: rows that are hard for one are hard
for the other, so their difference is known better than either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from corpus.bootstrap import Between, Floats, bootstrapped_means, interval, no_stop
from workers.judging.unclear import JUDGED_MIN, Helped, why_unclear
from workers.local_models.tokens import Int64s

BASE, RESULT = "base model", "fine-tuned"


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class HeldOut:
    """Of N held-out answers: log-probabilities (N,) of each, in nats, before and after, and their tokens (N,)."""

    before: Floats
    after: Floats
    tokens: Int64s


@dataclass(frozen=True)
class LlmVerdict:
    """Losses in nats per token. `rewards`: figures of preferences, None for objectives without them."""

    before: Figure
    after: Figure
    difference: Figure
    reward_margin: Figure | None
    reward_accuracy: Figure | None
    helped: Helped
    rows: int
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """Plain JSON for manifests and reports."""
        systems = [_system(RESULT, self.after), _system(BASE, self.before)]
        found: dict[str, Any] = {
            "sentence": self.sentence,
            "helped": self.helped,
            "metric": "loss on held-out answers, nats per token; lower is better",
            "systems": systems,
            "difference": vars(self.difference),
            "rows": self.rows,
        }
        if self.reward_margin is not None and self.reward_accuracy is not None:
            found["rewards"] = {"margin": vars(self.reward_margin), "accuracy": vars(self.reward_accuracy)}
        return found


def judge(held_out: HeldOut, rewards: Floats | None = None, between: Between = no_stop) -> LlmVerdict:
    """`rewards` (M,): of each held-out pair or answer, how far the result moved towards what is preferred.

    `between` is called between two resamples, and may raise to stop.
    """
    figures = np.stack([held_out.tokens.astype(np.float64), held_out.before, held_out.after])
    tokens, *likelihoods = bootstrapped_means(figures, between)
    losses = [-likelihood / tokens for likelihood in likelihoods]
    total = float(held_out.tokens.sum())
    before, after = (-float(values.sum()) / total for values in (held_out.before, held_out.after))
    difference = _figure(after - before, losses[1] - losses[0])
    margin = accuracy = None
    if rewards is not None:
        margin, accuracy = _means(rewards, (rewards > 0).astype(np.float64), between=between)
    rows = len(held_out.tokens)
    decides = difference if margin is None else Figure(-margin.value, -margin.high, -margin.low)
    helped = _helped(decides, rows)
    why = why_unclear(decides.value, decides.low, decides.high, rows) if helped == "unclear" else ""
    own, base = _figure(after, losses[1]), _figure(before, losses[0])
    return LlmVerdict(
        base,
        own,
        difference,
        margin,
        accuracy,
        helped,
        rows,
        _sentence(base, own, difference, margin, accuracy, helped, why),
    )


def _helped(difference: Figure, rows: int) -> Helped:
    """Lower is better. A difference whose interval holds 0 proves nothing, and neither do very few rows."""
    if rows < JUDGED_MIN:
        return "unclear"
    return "yes" if difference.high < 0 else "no" if difference.low > 0 else "unclear"


def _sentence(
    base: Figure,
    own: Figure,
    difference: Figure,
    margin: Figure | None,
    accuracy: Figure | None,
    helped: Helped,
    why: str,
) -> str:
    """`why`: it is unclear."""
    figures = (
        f"loss on held-out answers {own.value:.3f} nats per token, base model {base.value:.3f} "
        f"(difference {difference.value:+.3f}, {difference.low:+.3f} to {difference.high:+.3f}; "
        f"perplexity {perplexity(own.value):.1f} against {perplexity(base.value):.1f})"
    )
    if margin is not None and accuracy is not None:
        figures = (
            f"{accuracy.value:.0%} of held-out preferences kept better than by the base model, reward margin "
            f"{margin.value:+.3f} ({margin.low:+.3f} to {margin.high:+.3f}); {figures}"
        )
    if helped == "yes":
        return f"Fine-tuning helped: {figures}."
    if helped == "no":
        return f"Fine-tuning did not help: {figures}. The base model is better on these data."
    return f"It is unclear whether fine-tuning helped: {figures}. {why}"


def _system(name: str, loss: Figure) -> dict[str, Any]:
    return {"system": name, **vars(loss), "perplexity": perplexity(loss.value)}


def perplexity(loss: float) -> float:
    """exp of the loss; so large a loss as makes it endless counts as 700 nats."""
    return math.exp(min(loss, 700.0))


def _means(*values: Floats, between: Between) -> list[Figure]:
    resampled = bootstrapped_means(np.stack(values), between)
    return [_figure(float(own.mean()), means) for own, means in zip(values, resampled, strict=True)]


def _figure(value: float, resampled: Floats) -> Figure:
    return Figure(value, *interval(resampled))
