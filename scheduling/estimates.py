"""How much main memory work will take, from what is known before it starts. Rough, and meant to err upwards a little.

Training keeps four numbers of four bytes per parameter: the weight, its gradient, and Adam's two moments (16 bytes).
Activations: a transformer layer keeps about 34 numbers per token and hidden unit for the backward pass in 16-bit terms
(Korthikanti et al. 2022, arXiv:2205.05198, eq. 1), thus 68 bytes in fp32. Layers and width aren't known before the
model is read, but their product follows the number of parameters closely from MiniLM-L6 (6 layers of 384, 22.7 M) over
BERT base (12 of 768, 110 M) to BERT large (24 of 1024, 335 M): 2304 (parameters / 22.7 M)^0.88.
"""

from __future__ import annotations

BYTES_PER_PARAMETER_STORED = 4
#: Weight, gradient, and Adam's two moments, in fp32.
BYTES_PER_PARAMETER_TRAINED = 16
#: The libraries, the tokenizer, the data set, and the allocator's slack.
RUNTIME_BYTES = int(1.2 * 2**30)
#: What an engine needs beside the weights.
SERVING_RUNTIME_BYTES = int(0.8 * 2**30)
#: The weights of BERT base, taken when nothing is known of the model.
TYPICAL_WEIGHTS_BYTES = 440_000_000
#: A GGUF counts as so many times its size. SmolLM2-135M in Q4_1 (98 MB) was converted in 1.6 GB, libraries included.
GGUF_EXPANSION = 3

_ACTIVATION_BYTES_PER_UNIT = 68
_REFERENCE_PARAMETERS = 22.7e6
_REFERENCE_UNITS = 2304
_UNITS_EXPONENT = 0.88


def training_memory_bytes(weights_bytes: int, *, batch_size: int, tokens_per_text: int) -> int:
    """Main memory of a full fine-tuning with AdamW in fp32, in bytes. `weights_bytes`: the stored fp32 weights."""
    parameters = weights_bytes / BYTES_PER_PARAMETER_STORED
    units = _REFERENCE_UNITS * (parameters / _REFERENCE_PARAMETERS) ** _UNITS_EXPONENT
    activations = _ACTIVATION_BYTES_PER_UNIT * units * batch_size * tokens_per_text
    return int(BYTES_PER_PARAMETER_TRAINED * parameters + activations) + RUNTIME_BYTES


def serving_memory_bytes(weights_bytes: int) -> int:
    """Main memory of one process that serves an encoder, in bytes: the weights, once more while they are loaded."""
    return 2 * weights_bytes + SERVING_RUNTIME_BYTES
