"""What a language model forgets while it learns: its perplexity on neutral texts, before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from corpus.bootstrap import Between, interval, no_stop
from corpus.neutral_texts import NEUTRAL_TEXTS
from workers.judging.llm_verdict import Figure
from workers.judging.perplexity import Perplexity, perplexity_of, pieces_of
from workers.training.llm.decoder import Decoder
from workers.training.llm.likelihood import log_probs_of

#: Tokens of a piece; of the texts none has more with a usual vocabulary.
_PIECE_TOKENS = 256


@dataclass(frozen=True)
class Forgetting:
    """The same texts before and after; `change` in bits per byte, above 0 where the model predicts them worse."""

    before: Perplexity
    after: Perplexity

    @property
    def change(self) -> Figure:
        value = self.after.bits_per_byte.value - self.before.bits_per_byte.value
        return Figure(value, *interval(self.after.resampled_bits - self.before.resampled_bits))

    @property
    def sentence(self) -> str:
        """For people."""
        before, after, change = self.before.perplexity.value, self.after.perplexity.value, self.change
        what = "it has forgotten something" if change.low > 0 else "it has forgotten nothing that shows"
        return (
            f"On {self.before.texts} neutral texts, which are the platform's own and not of the data, perplexity went "
            f"from {before:.2f} to {after:.2f} ({change.value:+.3f} bits per byte, {change.low:+.3f} to "
            f"{change.high:+.3f}): {what}."
        )

    def as_json(self) -> dict[str, Any]:
        """Plain JSON for manifests and reports."""
        return {
            "sentence": self.sentence,
            "before": self.before.as_json(),
            "after": self.after.as_json(),
            "change": vars(self.change),
        }

    def metrics(self) -> dict[str, float]:
        """By names of manifests."""
        after, change = self.after.perplexity, self.change
        return {
            "neutral/perplexity": after.value,
            "neutral/perplexity_low": after.low,
            "neutral/perplexity_high": after.high,
            "neutral/perplexity_before": self.before.perplexity.value,
            "neutral/forgotten": change.value,
            "neutral/forgotten_low": change.low,
            "neutral/forgotten_high": change.high,
        }


def neutral_perplexity(
    decoder: Decoder,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    device: torch.device,
    after_batch: Callable[[int], None] = lambda done: None,
    between: Between = no_stop,
) -> Perplexity:
    """Of the model as it is now, out of training mode. 875 tokens of SmolLM2-135M: 4.4 s of one busy core."""
    pieces = pieces_of(tokenizer, NEUTRAL_TEXTS, min(_PIECE_TOKENS, max_tokens))
    return perplexity_of(log_probs_of(decoder, pieces, device, after_batch), pieces, between)
