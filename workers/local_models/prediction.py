"""What a classifier or scorer says of many texts: batches of similar length, no gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from workers.local_models.base_model import LoadedModel
from workers.local_models.devices import autocast
from workers.local_models.packed_encoder import classify, variant_of
from workers.local_models.tokens import TokenTable, batch_of, by_length

#: Tokens of one batch, padding included: enough to fill the processor, few enough for its cache.
_BATCH_TOKENS = 4096


def probabilities(
    loaded: LoadedModel,
    tokens: TokenTable,
    device: torch.device,
    after_batch: Callable[[int], None] = lambda done: None,
) -> npt.NDArray[np.float32]:
    """Softmax scores (N, classes) in the order of the texts. `after_batch` is told the number of texts done."""
    return logits(loaded, tokens, device, after_batch, lambda outputs: torch.softmax(outputs, dim=-1))


def logits(
    loaded: LoadedModel,
    tokens: TokenTable,
    device: torch.device,
    after_batch: Callable[[int], None] = lambda done: None,
    activation: Callable[[torch.Tensor], torch.Tensor] = lambda outputs: outputs,
) -> npt.NDArray[np.float32]:
    """The head's outputs (N, classes) after `activation`, in the order of the texts; otherwise as `probabilities`."""
    variant = variant_of(loaded.model)
    scores = np.zeros((len(tokens), int(loaded.model.config.num_labels)), dtype=np.float32)
    done = 0
    for rows in by_length(tokens.lengths, _BATCH_TOKENS):
        with torch.inference_mode(), autocast(device):
            outputs = classify(loaded.model, batch_of(tokens, rows).to(device), variant, loaded.pad_id)
            scores[rows] = activation(outputs.float()).cpu().numpy()
        done += len(rows)
        after_batch(done)
    return scores
