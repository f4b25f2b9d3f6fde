"""Memory and work of causal language models under `finetune-llm`.

Numbers per token and layer that the backward pass needs (H hidden size, I width of the feed-forward part, Q width of
all queries), counted by looking at what autograd saves:

- each of two RMS norms: its input and its result, 2 H; the normalised input as well where the norm is trained, H
- attention: queries, keys and values spread over all query heads, and the result twice, 5 Q
- the gated feed-forward part: gate, activated gate, up, and their product, 4 I
- a LoRA adapter: its rank once per adapted matrix

With gradient checkpointing a layer keeps its input, H, and one layer at a time is computed again.
The LM head holds a few rows of logits at a time (`workers.training.llm.lm_head`): 32 MiB or 32 rows, whichever is more,
twice for logits and gradients, never tokens x vocabulary.
QLoRA keeps the matrices of the layers in 4 bits, and 0.127 bits of constants per weight (arXiv:2305.14314, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scheduling.estimates.encoders import BYTES_FP32, attention_operations
from scheduling.estimates.shapes import ModelShape

#: 4 bits, and the constants of double quantization.
BYTES_NF4 = (4 + 0.127) / 8
BYTES_BF16 = 2
_LOGITS_BYTES, _LOGITS_ROWS_MIN = 32 << 20, 32

#: The matrices of a layer: name -> (input width, output width).
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")


def matrices(shape: ModelShape) -> dict[str, tuple[int, int]]:
    """Name -> (input width, output width) of one layer's matrices."""
    hidden, queries, keys, width = shape.hidden, shape.query_width, shape.key_width, shape.intermediate
    return {
        "q_proj": (hidden, queries),
        "k_proj": (hidden, keys),
        "v_proj": (hidden, keys),
        "o_proj": (queries, hidden),
        "gate_proj": (hidden, width),
        "up_proj": (hidden, width),
        "down_proj": (width, hidden),
    }


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter of `rank` on the named matrices; `saved` modules are trained whole beside it."""

    rank: int
    targets: tuple[str, ...]
    saved: tuple[str, ...] = ()
    dora: bool = False

    @classmethod
    def of(
        cls, rank: int, target_modules: Iterable[str] | None, saved: Iterable[str] = (), dora: bool = False
    ) -> Adapter:
        """`target_modules` None: every matrix of the layers."""
        names = _ATTENTION + _FEED_FORWARD
        wanted = names if target_modules is None else tuple(name for name in names if name in set(target_modules))
        return cls(rank, wanted, tuple(saved), dora)

    def parameters(self, shape: ModelShape) -> int:
        """rank x (inputs + outputs) for each matrix; DoRA adds a magnitude per output."""
        sizes = matrices(shape)
        per_layer = sum(self.rank * sum(sizes[name]) + (sizes[name][1] if self.dora else 0) for name in self.targets)
        table = shape.vocabulary * shape.hidden
        whole = sum(table for name in self.saved if name in ("lm_head", "embed_tokens"))
        return shape.layers * per_layer + whole


@dataclass(frozen=True)
class MicroBatch:
    """What passes through the model at once: tokens, and of them those that count in the loss."""

    tokens: float
    longest: float
    learnt: float
    #: Tokens of the step's next micro-batch as a share of this one's; 0 when there is none.
    next_share: float = 0.0


def activation_bytes(
    shape: ModelShape,
    batch: MicroBatch,
    *,
    adapter: Adapter | None,
    checkpointing: bool,
    bytes_each: int = BYTES_FP32,
) -> int:
    """Of the largest micro-batch, with what the backward pass holds in the layer where it is."""
    hidden, width, queries = shape.hidden, shape.intermediate, shape.query_width
    norms = (2 if adapter is not None else 3) * 2 * hidden
    adapted = adapter.rank * len(adapter.targets) if adapter is not None else 0
    layer = norms + 5 * queries + 4 * width + adapted
    kept = shape.layers * hidden + layer if checkpointing else shape.layers * layer
    transient = 3 * width + 4 * hidden
    return int(bytes_each * batch.tokens * (kept + transient))


def lm_head_bytes(shape: ModelShape, batch: MicroBatch, *, trained: bool, bytes_each: int = BYTES_FP32) -> int:
    """Logits of a chunk and their gradient in fp32, the hidden states' gradients, and the head's while summed up."""
    rows = min(batch.learnt, max(_LOGITS_ROWS_MIN, _LOGITS_BYTES // (BYTES_FP32 * shape.vocabulary)))
    logits = 2 * BYTES_FP32 * rows * shape.vocabulary
    states = 2 * bytes_each * batch.learnt * shape.hidden
    head = BYTES_FP32 * shape.vocabulary * shape.hidden if trained else 0
    return int(logits + states + head)


def weight_bytes(shape: ModelShape, *, bytes_each: float, quantized: bool) -> int:
    """Of the stored model in memory; quantization leaves the embeddings and the LM head as they are."""
    layers = shape.layers * shape.layer_parameters
    others = shape.parameters - layers
    return int(others * bytes_each + layers * (BYTES_NF4 if quantized else bytes_each))


def dequantization_bytes(shape: ModelShape, bytes_each: int) -> int:
    """A quantized matrix is made whole for each product: the largest of them."""
    return max(inputs * outputs for inputs, outputs in matrices(shape).values()) * bytes_each


def step_operations(shape: ModelShape, tokens: float, length: float, *, full: bool, checkpointing: bool) -> float:
    """Of training on so many tokens: forward 2 and backward 4 per weight, 2 where the weights are frozen."""
    per_weight = (6 if full else 4) + (2 if checkpointing else 0)
    layers = shape.layers * (
        per_weight * shape.layer_parameters + per_weight / 2 * attention_operations(shape, length) / 2
    )
    return tokens * (layers + per_weight * shape.vocabulary * shape.hidden)
