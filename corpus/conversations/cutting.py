"""What is left of rendered examples within the length that a model is trained with. Job and check cut by this."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from corpus.conversations.rendering import Rendered
from jobspecs.kinds.finetune_llm import FinetuneLlm

#: Ids and what is learnt of them, as arrays: as lists they take eight times the memory.
Part = tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]


def cut(part: Rendered, spec: FinetuneLlm, max_length: int) -> list[Part]:
    """Conversations lose what is beyond `max_length` tokens; plain texts become several sequences."""
    ids, learnt = np.array(part.ids, dtype=np.int32), _learnt(part, spec)
    if spec.objective != "pretrain":
        return [(ids[:max_length], learnt[:max_length])]
    starts = range(0, len(ids), max_length)
    pieces = [(ids[start : start + max_length], learnt[start : start + max_length]) for start in starts]
    return [piece for piece in pieces if len(piece[0]) > 1]


def teaches(pieces: list[Part]) -> bool:
    """Whether each piece of an example holds a token to learn; the first token of a sequence is never predicted."""
    return bool(pieces) and all(learnt[1:].any() for _, learnt in pieces)


def tokens_needed(parts: Iterable[Rendered], spec: FinetuneLlm) -> int:
    """The length from which on `teaches` holds: each sequence up to its first token to learn."""
    firsts = (np.flatnonzero(_learnt(part, spec)[1:]) for part in parts)
    return max((int(first[0]) + 2 for first in firsts if len(first)), default=0)


def _learnt(part: Rendered, spec: FinetuneLlm) -> npt.NDArray[np.bool_]:
    whole = spec.training.loss_on == "all" and spec.objective in ("sft", "pretrain")
    return np.full(len(part.ids), True) if whole else np.array(part.mask, dtype=np.bool_)
