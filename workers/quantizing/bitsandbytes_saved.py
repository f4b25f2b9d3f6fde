"""bitsandbytes: 4-bit NormalFloat (arXiv:2305.14314) and LLM.int8 (arXiv:2208.07339), saved packed.

Neither looks at texts. The embeddings and the output head stay in full precision.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel

from workers.local_models.adapters import keep_fp32_products, nf4
from workers.local_models.base_model import load_causal_lm
from workers.local_models.gguf_model import write_language_model
from workers.quantizing.interface import Order, Written
from workers.quantizing.sizes import stored, weights


def write(order: Order) -> Written:
    """A folder that transformers loads as it is."""
    four = order.spec.family == "nf4"
    config = nf4(torch.float32) if four else BitsAndBytesConfig(load_in_8bit=True)
    loaded = load_causal_lm(order.folder, quantization=config)
    order.between()
    write_language_model(order.output, loaded.model, loaded.tokenizer)
    bits, stored_as = stored(order.output)
    return Written(bits, weights(order.folder), stored_as, libraries=("bitsandbytes",))


def load(folder: Path) -> PreTrainedModel:
    """As the embedded engine loads it."""
    model = load_causal_lm(folder).model
    keep_fp32_products(model)
    return model
