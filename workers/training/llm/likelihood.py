"""How likely a model holds plain texts, with the forward pass that trains: what perplexity is computed from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from workers.judging.perplexity import Pieces
from workers.training.llm.decoder import Decoder
from workers.training.llm.scoring import Float64s, sequence_log_probs
from workers.training.llm.sequences import sequences_of

#: Tokens of a forward pass; a longer piece passes alone.
_BATCH_TOKENS = 4096


def log_probs_of(
    decoder: Decoder, pieces: Pieces, device: torch.device, after_batch: Callable[[int], None] = lambda done: None
) -> Float64s:
    """Log-probabilities (N,) of the pieces, in nats: the sum over all tokens of each but its first.

    The model must be out of training mode. `after_batch` is told the number of pieces done, and may raise to stop.
    """
    sequences = sequences_of((ids, np.ones(len(ids), dtype=np.bool_)) for ids in pieces.ids)
    return sequence_log_probs(decoder, sequences, _BATCH_TOKENS, device, after_batch)
