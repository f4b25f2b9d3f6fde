"""The two sides of a comparison: a model in an engine, as far as the gate asks about it.

Notation: T tokens of a text, N most probable tokens that an engine tells.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from workers.engines.embedded.generation.language_model import ChatTemplateFailed, LanguageModel, NoChatTemplate
from workers.judging.parity import logits_of

#: Most probable tokens that are compared one by one; all others count as one.
NEXT_TOKENS = 256
#: An answer whose speed is measured.
SPEED_PROMPT, SPEED_TOKENS = "Once upon a time", 32


class Side(Protocol):
    """A model in an engine. Methods raise RunFailed where the engine does not answer."""

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int] | None:
        """The tokens of a conversation that is to be answered; None: the engine makes none of it."""
        ...

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        ...

    def next_tokens(self, ids: Sequence[int]) -> list[dict[int, float]]:
        """After each of the T tokens: the N most probable next ones -> log-probability in nats."""
        ...

    def ends_at(self, token: int) -> bool:
        """Whether an answer ends with this token."""
        ...

    def tokens_per_s(self) -> float:
        """How fast it writes one answer of SPEED_TOKENS tokens here and now."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class EmbeddedSide:
    """In this process, as the embedded engine loads it."""

    model: LanguageModel

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int] | None:
        try:
            return self.model.encode_rendered(self.model.render_chat(messages))
        except (NoChatTemplate, ChatTemplateFailed):
            return None

    def encode(self, text: str) -> list[int]:
        return self.model.encode(text)

    def next_tokens(self, ids: Sequence[int]) -> list[dict[int, float]]:
        log_probs = self.log_probs(ids)
        values, tokens = log_probs.topk(min(NEXT_TOKENS, log_probs.shape[-1]), dim=-1)
        return [dict(zip(*pair, strict=True)) for pair in zip(tokens.tolist(), values.tolist(), strict=True)]

    def log_probs(self, ids: Sequence[int]) -> torch.Tensor:
        """Of all tokens, (T, V) in fp64."""
        return logits_of(self.model.model)(np.array(ids, dtype=np.int64)).double().log_softmax(-1)

    def ends_at(self, token: int) -> bool:
        return token in self.model.end_tokens

    def tokens_per_s(self) -> float:
        ids = torch.tensor([self.encode(SPEED_PROMPT)], device=self.model.device)
        with torch.inference_mode():
            begun = time.monotonic()
            self.model.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                **{f"{end}_new_tokens": SPEED_TOKENS for end in ("min", "max")},
            )
        return SPEED_TOKENS / (time.monotonic() - begun)

    def close(self) -> None:
        self.model.close()
