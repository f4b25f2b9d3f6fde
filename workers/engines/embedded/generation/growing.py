"""An answer while it grows: what was read and written of it, and what of that can be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from workers.engines.embedded.generation.answers import Answer, End, Finish, Piece, Step
from workers.engines.embedded.generation.lora import Lora
from workers.engines.embedded.generation.prefixes import digest_of
from workers.engines.embedded.generation.sampling import Sampler, Sampling
from workers.engines.embedded.generation.text_stream import TextStream


@dataclass(eq=False)
class Growing:
    """One answer, as the thread that generates sees it."""

    answer: Answer
    prompt: Sequence[int]
    sampling: Sampling
    sampler: Sampler
    text: TextStream
    #: Any of these ends it.
    end_tokens: frozenset[int]
    adapter: Lora | None
    #: Made by the model's `Forward` when reading begins.
    cache: Any = None
    #: How many tokens of the prompt have been read.
    read: int = 0
    #: Of the pieces of the prompt that have been read, as `Prefixes` knows them.
    digests: list[bytes] = field(default_factory=list)
    #: Behind the last token that was read, (vocabulary,), where those of the prompt are asked for.
    logits: torch.Tensor | None = None
    written: list[int] = field(default_factory=list)

    @property
    def tokens_at_most(self) -> int:
        return len(self.prompt) + self.sampling.max_tokens

    @property
    def tokens_cached(self) -> int:
        return self.cache.length if self.cache is not None else 0

    def next_digest(self, piece: int) -> bytes:
        """Of the prompt up to the end of its next piece."""
        first = self.adapter.digest if self.adapter is not None else b""
        before = self.digests[-1] if self.digests else first
        return digest_of(before, self.prompt[self.read : self.read + piece])

    def echoed(self, tokens: Sequence[int], logits: torch.Tensor | None) -> Step:
        """Tokens of the prompt as part of the text. No stop string is looked for in them."""
        pieces = []
        for place, token in enumerate(tokens):
            choice = self.sampler.given(self.logits, token)
            others = tuple(self.text.would_grow(other) for other, _ in choice.top)
            pieces.append(Piece(choice, *self.text.grow(token), others))
            self.logits = logits[place] if logits is not None and self.sampling.scores_echo else None
        return Step(tuple(pieces), "".join(piece.text for piece in pieces))

    def grown(self, logits: torch.Tensor) -> Step:
        """By the next token, behind these logits (vocabulary,): with its text, and its end if it was the last one."""
        choice = self.sampler.choose(logits)
        self.written.append(choice.token)
        others = tuple(self.text.would_grow(token) for token, _ in choice.top)
        ended = choice.token in self.end_tokens
        last = ended or len(self.written) >= self.sampling.max_tokens
        text, whole = ("", True) if ended else self.text.grow(choice.token)
        rest = self.text.finish() if last else ""
        piece = Piece(choice, text + rest, whole and not rest, others)
        shown = self.text.show(piece.text)
        if self.text.stopped_by is not None:
            return Step((piece,), shown, self._end(Finish.stop_string))
        if last:
            reason = Finish.end_token if ended else Finish.length
            return Step((piece,), shown + self.text.release(), self._end(reason))
        return Step((piece,), shown)

    def _end(self, reason: Finish) -> End:
        return End(reason, self.text.stopped_by, len(self.prompt), len(self.written), self.sampler.seed)
