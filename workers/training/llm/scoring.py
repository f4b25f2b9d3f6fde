"""Log-probabilities of whole sequences: for the loss on held-out rows and for the reference of preferences."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from workers.local_models.row_moves import pick
from workers.training.llm.decoder import Decoder
from workers.training.llm.lm_head import token_log_probs
from workers.training.llm.sequences import SequenceBatch, Sequences, batch_of, micro_batches

Float64s = npt.NDArray[np.float64]


def supervised_log_probs(decoder: Decoder, batch: SequenceBatch) -> torch.Tensor:
    """Log-probabilities (S,) of the supervised tokens, in nats."""
    return token_log_probs(pick(decoder.hidden(batch), batch.predictors), decoder.head, batch.targets)


def sums(log_probs: torch.Tensor, batch: SequenceBatch) -> torch.Tensor:
    """Sums (B,) per sequence, in the order of the batch, of figures (S,) of its supervised tokens."""
    return log_probs.new_zeros(len(batch.order)).index_add(0, batch.owners, log_probs)


def sequence_log_probs(
    decoder: Decoder,
    sequences: Sequences,
    tokens_max: int,
    device: torch.device,
    after_batch: Callable[[int], None] = lambda done: None,
) -> Float64s:
    """Log-probability (N,) of the supervised tokens of each sequence. The model must be out of training mode.

    `after_batch` is told the number of sequences done, and may raise to stop.
    """
    found = np.zeros(len(sequences), dtype=np.float64)
    parts = list(micro_batches(sequences.lengths, np.arange(len(sequences)), tokens_max, None))
    world, done = decoder.world, 0
    for number, counts in world.dealt(len(parts)):
        batch = batch_of(sequences, parts[number]).to(device)
        with world.without_gradients():
            log_probs = world.run(partial(supervised_log_probs, decoder, batch))
            if counts:
                found[batch.order] = sums(log_probs.double(), batch).cpu().numpy()
        done = min(len(sequences), done + len(parts[number]) * world.size)
        after_batch(done)
    # Each row was scored by one process; the others add zero.
    everywhere: Float64s = world.sum(torch.from_numpy(found)).numpy()
    return everywhere
