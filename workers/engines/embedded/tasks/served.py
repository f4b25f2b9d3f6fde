"""What a loaded model is to the embedded engine. One task = one file here and one line in `served_tasks.py`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from starlette.routing import BaseRoute

from workers.engines.embedded.batching import Batcher, Item
from workers.engines.interface import Tokens
from workers.local_models.tokens import Int64s

Wish = TypeVar("Wish", bound=Hashable)
Wished = TypeVar("Wished")
Answer = TypeVar("Answer")


class Measured(Protocol):
    """What a model has found of a text."""

    @property
    def tokens(self) -> int:
        """Of the text, before any cut."""


class Counted(Protocol):
    """Texts as a model reads them."""

    @property
    def lengths(self) -> Int64s:
        """Tokens per text (N,)."""


Found = TypeVar("Found", bound=Measured)


class ServedModel(Protocol):
    """A loaded model, and the routes that it answers beside /health and /info."""

    def routes(self) -> Sequence[BaseRoute]:
        """Their handlers raise `requests.Refused`, `batching.Overloaded`, or anything else when the model fails."""

    def info(self) -> dict[str, Any]:
        """What /info says of it, in the fields of text-embeddings-inference."""

    def stuck_s(self) -> float:
        """For how many seconds it has been busy with the same thing; infinite when it will never answer again."""

    def tokens(self) -> Tokens:
        """How many have gone through it so far, also for requests that failed or whose clients have left."""

    def close(self) -> None:
        """Ends its threads after what they have in hand."""


class Batched(Generic[Item, Found]):
    """The half of a ServedModel that its batcher is."""

    def __init__(self, infer: Callable[[Sequence[Item]], Sequence[Found]], max_tokens: int) -> None:
        """`infer(items) -> one result per item`; of each, the model sees `max_tokens` tokens at most."""
        self._infer, self._tokens_seen_max, self._prompt_tokens = infer, max_tokens, 0
        self.batcher: Batcher[Item, Found] = Batcher(self._counted)

    def stuck_s(self) -> float:
        return self.batcher.stuck_s()

    def tokens(self) -> Tokens:
        return Tokens(prompt=self._prompt_tokens)

    def close(self) -> None:
        self.batcher.close()

    def _counted(self, items: Sequence[Item]) -> Sequence[Found]:
        found = self._infer(items)
        self._prompt_tokens += sum(min(one.tokens, self._tokens_seen_max) for one in found)
        return found


def in_groups(
    items: Sequence[tuple[Wish, Wished]], infer: Callable[[Wish, list[Wished]], Sequence[Answer]]
) -> list[Answer]:
    """One answer per item, in order: those that wish the same go through the model together."""
    groups: dict[Wish, list[int]] = {}
    for index, (wish, _) in enumerate(items):
        groups.setdefault(wish, []).append(index)
    found: dict[int, Answer] = {}
    for wish, indices in groups.items():
        found |= zip(indices, infer(wish, [items[index][1] for index in indices]), strict=True)
    return [found[index] for index in range(len(items))]


def whole_lengths(
    tokens: Counted, texts: list[Wished], max_tokens: int, count: Callable[[list[Wished]], Sequence[int]]
) -> list[int]:
    """Tokens of each text before any cut at `max_tokens`; `count`s anew only those that may have been cut."""
    lengths = tokens.lengths
    reached = np.flatnonzero(lengths >= max_tokens)
    if len(reached):
        lengths[reached] = count([texts[place] for place in reached])
    return [int(length) for length in lengths]
