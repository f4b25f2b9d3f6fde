"""Memory and work of the encoders that classifiers, embedders and rerankers train.

Training in fp32 with AdamW keeps the weight, its gradient and two moments: 16 bytes per trained parameter.

What the backward pass needs, counted by looking at what autograd saves in `workers.local_models.packed_encoder`, in
numbers per token and layer (H hidden size, I width of the feed-forward part, A heads, L tokens of the longest text,
r padded over real tokens):

- linear layers and norms: 5 H; two dropout masks 2 H more; before and after the activation function: 2 I
- attention, which alone works on the padded form: queries, keys, values and result, 4 r H without dropout; with dropout
  the kernel that saves no probabilities can't be used: 3 r H and 3 r A L

The backward pass itself holds about two gradients of each kind in the layer where it is: 2 I + 4 H, once.
On GPUs the products run in bf16 under autocast, so what is saved takes half.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from scheduling.estimates.data import DataFacts
from scheduling.estimates.shapes import ModelShape

BYTES_FP32 = 4
#: A multiplication and an addition per weight and token; the backward pass takes two products for each forward one.
OPERATIONS_FORWARD, OPERATIONS_TRAINED = 2, 6
#: Tokens of a batch that is judged, padding included (`workers.local_models.prediction`).
_JUDGED_TOKENS = 4096
#: What the allocator holds of a judged batch over one layer's results: MiniLM's are 50 MB, 72 are in use, 174 held.
_JUDGED_SHARE = 3.5


@dataclass(frozen=True)
class EncoderBatch:
    """One batch that passes through the model at once. `longest`: tokens of its longest text."""

    tokens: float
    longest: float
    sequences: float
    dropout: bool = False

    @property
    def padding(self) -> float:
        """Padded tokens over real ones."""
        return max(1.0, self.sequences * self.longest / max(1.0, self.tokens))

    def grouped(self, padding_max: float | None) -> EncoderBatch:
        """The batch as it is when it may not be padded any further."""
        if padding_max is None or self.padding <= padding_max:
            return self
        return replace(self, longest=padding_max * self.tokens / self.sequences)


def peak_activation_bytes(
    shape: ModelShape,
    data: DataFacts,
    sequences: float,
    *,
    drawn: float,
    dropout: bool,
    padding_max: float | None = None,
    bytes_each: int = BYTES_FP32,
) -> int:
    """Of the worse of two batches: the one with most tokens, and the one with the longest of all `drawn` texts.

    `padding_max`: a batch whose padded form has more than so many times its tokens is cut into groups of like length.
    """
    longest = data.longest_among(drawn)
    usual = data.mean * (sequences - 1)
    batches = (
        EncoderBatch(data.tokens(sequences), data.longest_of(sequences), sequences, dropout),
        EncoderBatch(min(usual + longest, longest * sequences), longest, sequences, dropout),
    )
    return max(activation_bytes(shape, batch.grouped(padding_max), bytes_each=bytes_each) for batch in batches)


def activation_bytes(
    shape: ModelShape, batch: EncoderBatch, *, trained: bool = True, bytes_each: int = BYTES_FP32
) -> int:
    """Of the largest batch; `trained` false: forward only, where one layer's results are alive at a time."""
    hidden, width, padding = shape.hidden, shape.intermediate * (2 if shape.gated else 1), batch.padding
    transient = 2 * width + 4 * hidden
    if not trained:
        return int(bytes_each * batch.tokens * (width + 4 * hidden * padding))
    if batch.dropout:
        saved = 7 * hidden + 2 * width + padding * (3 * hidden + 3 * shape.heads * batch.longest)
    else:
        saved = 5 * hidden + 2 * width + 4 * padding * hidden
    return int(bytes_each * batch.tokens * (shape.layers * saved + transient + 3 * hidden))


def judging_bytes(shape: ModelShape, data: DataFacts, texts: float, *, compared: bool, vectors: int = 0) -> int:
    """What stands while so many texts are judged, after training has given its memory back.

    The trained model, one batch of texts, and where another model of that size is `compared`, its weights as they are
    read and as they are used. `vectors`: so many of each text are held.
    """
    # Nobody may have counted them, and a job that judges nothing can't be.
    texts = max(1.0, texts)
    longest = data.longest_of(texts)
    at_once = min(texts, max(1.0, _JUDGED_TOKENS / longest))
    # Texts of like length are judged together, next to no padding between them, and few texts are no full batch.
    tokens = min(at_once * longest, texts * data.mean)
    batch = EncoderBatch(tokens, tokens / at_once, at_once)
    models = (3 if compared else 1) * BYTES_FP32 * shape.parameters
    held = vectors * BYTES_FP32 * shape.hidden * texts
    return int(models + held + _JUDGED_SHARE * activation_bytes(shape, batch, trained=False))


def attention_operations(shape: ModelShape, length: float) -> float:
    """Per token and layer, forward: scores and their use, over texts of this length."""
    return 4 * shape.query_width * length


def forward_operations(shape: ModelShape, tokens: float, length: float) -> float:
    """Of the layers; the embeddings are looked up and cost nothing."""
    per_token = OPERATIONS_FORWARD * shape.layer_parameters + attention_operations(shape, length)
    return tokens * shape.layers * per_token
