"""The work of each job kind. A new kind adds one line to ESTIMATORS; without one it is taken for a plain training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from jobspecs.estimate import MemoryParts
from jobspecs.kinds.base import BASE_ROLE, SpecBase
from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.kinds.import_model import ImportModel
from jobspecs.kinds.train_classifier import TrainClassifier
from jobspecs.kinds.train_embedder import PASSAGES_MAX, TrainEmbedder
from jobspecs.kinds.train_reranker import RerankerNegatives, TrainReranker
from jobspecs.kinds.training import EncoderTraining, TrainingSpec
from scheduling.estimates import applied, causal, encoders
from scheduling.estimates.causal import Adapter, MicroBatch
from scheduling.estimates.data import DataFacts
from scheduling.estimates.encoders import BYTES_FP32, OPERATIONS_FORWARD, forward_operations
from scheduling.estimates.quantizing import quantized
from scheduling.estimates.shapes import ModelShape
from scheduling.estimates.work import IMPORTED_BYTES, SLACK_SHARE_ADAPTER, SLACK_SHARE_CAUSAL, Work

#: AdamW's two moments in fp32, and quantized to 8 bits.
_MOMENT_BYTES, _MOMENT_BYTES_8BIT = 8, 2
#: Tokens of a micro-batch when the spec gives none (`finetune_llm.LlmTraining`).
_MICRO_BATCH_TOKENS = 4096
#: Adapters and whatever else is trained beside frozen weights stay in fp32.
_TRAINED_BYTES = 4
#: Of a linear model: its vocabulary and coefficients; and n-grams of the texts, counted and once more as liblinear has
#: them, with the vocabulary before it is cut.
_LINEAR_BYTES, _LINEAR_BYTES_PER_TOKEN = 60_000_000, 900
#: Losses that are not sentence-transformers'.
_OWN_LOSSES = ("multiple-negatives-ranking", "cached-multiple-negatives-ranking")
#: `workers.local_models.embedding_network` cuts batches into groups beyond this share of padding.
_EMBEDDER_PADDING_MAX = 2.0


def work_of(spec: SpecBase, shapes: Mapping[str, ModelShape], data: DataFacts) -> Work:
    """`shapes`: role -> shape of each model of the spec, BASE_ROLE included."""
    return ESTIMATORS.get(spec.kind, _plain)(spec, shapes, data)


def _classifier(spec: TrainClassifier, shapes: Mapping[str, ModelShape], data: DataFacts) -> Work:
    if spec.linear:
        return _linear(_of_rows(data, spec.rows) * data.sequences_per_row * data.mean)
    training = spec.training
    return _trained_encoder(
        spec,
        shapes[BASE_ROLE],
        data,
        _of_rows(data, spec.rows),
        sequences=training.batch_size,
        training=training,
        fraction=_held_out_share(spec, data),
    )


def _linear(tokens: float) -> Work:
    """A linear model on n-grams. Its operations are no matrix products: they say nothing of how fast encoders train."""
    return Work(0, 0, MemoryParts(weights=_LINEAR_BYTES, activations=int(_LINEAR_BYTES_PER_TOKEN * tokens)), 0, 0.0)


def _embedder(spec: TrainEmbedder, shapes: Mapping[str, ModelShape], data: DataFacts) -> Work:
    training, columns = spec.training, len(spec.text_columns)
    mined = spec.hard_negatives.num_negatives if spec.hard_negatives else 0
    sequences = training.batch_size * (columns + mined)
    if spec.loss_name == "cached-multiple-negatives-ranking":
        sequences = min(sequences, training.mini_batch_size or 32)
    shape = replace(shapes[BASE_ROLE], layers=0) if spec.static else shapes[BASE_ROLE]
    texts = replace(data, sequences_per_row=columns + mined)
    return _trained_encoder(
        spec,
        shape,
        texts,
        _of_rows(data, spec.rows),
        sequences=sequences,
        training=training,
        fraction=_held_out_share(spec, data),
        # Held-out queries are searched among the passages of the whole data set.
        judged_beside=PASSAGES_MAX if spec.shape == "triplets" else 0,
        compared=True,
        # Vectors of the trained model, of the base, and of length 1.
        vectors=3,
        imported_bytes=0 if spec.loss_name in _OWN_LOSSES else IMPORTED_BYTES,
        # The cached loss embeds every text twice, the first time without gradients (arXiv:2101.06983).
        padding_max=_EMBEDDER_PADDING_MAX,
        passes=4 / 3 if spec.loss_name == "cached-multiple-negatives-ranking" else 1.0,
    )


def _reranker(spec: TrainReranker, shapes: Mapping[str, ModelShape], data: DataFacts) -> Work:
    training = spec.training
    mined = (spec.hard_negatives or RerankerNegatives()).num_negatives if spec.mines_negatives else 0
    pairs = replace(data, sequences_per_row=data.sequences_per_row + mined)
    return _trained_encoder(
        spec,
        shapes[BASE_ROLE],
        pairs,
        _of_rows(data, spec.rows),
        sequences=training.batch_size,
        training=training,
        fraction=_held_out_share(spec, data),
        compared=True,
    )


def _trained_encoder(
    spec: SpecBase,
    shape: ModelShape,
    data: DataFacts,
    rows: float,
    *,
    sequences: float,
    training: EncoderTraining,
    fraction: float,
    passes: float = 1.0,
    padding_max: float | None = None,
    judged_beside: int = 0,
    compared: bool = False,
    vectors: int = 0,
    imported_bytes: int = 0,
) -> Work:
    """`compared`: another model of that size judges the same texts. `vectors`: so many of each text are held."""
    gpu = spec.resources.gpus > 0
    everything = rows * (1 - fraction) * data.sequences_per_row
    words = 0 if training.freeze_embeddings else min(shape.vocabulary, _words_in_use(everything * data.mean))
    tables = words * shape.hidden
    trainable = shape.parameters - shape.embedding_parameters + tables
    activations = encoders.peak_activation_bytes(
        shape,
        data,
        min(sequences, max(1.0, everything)),
        drawn=everything,
        dropout=(shape.attention_dropout if training.dropout is None else training.dropout) > 0,
        padding_max=padding_max,
        bytes_each=2 if gpu else BYTES_FP32,
    )
    # The weights that were best so far stand beside those that train.
    best = trainable if training.epochs == "auto" else 0
    parts = MemoryParts(
        weights=BYTES_FP32 * (shape.parameters + (0 if training.freeze_embeddings else tables) + best),
        # On a CPU a batch's results don't fit the blocks that gradients leave, so that these stay beside them.
        gradients=_gradients_at_peak(BYTES_FP32 * trainable, activations if gpu else 0),
        optimizer=_MOMENT_BYTES * trainable,
        activations=activations,
    )
    tokens = everything * training.epochs_of(rows * (1 - fraction)) * data.mean
    texts = rows * fraction * data.sequences_per_row + min(rows * (1 - fraction), judged_beside)
    judged = texts * data.mean
    operations = 3 * passes * forward_operations(shape, tokens, data.mean) + forward_operations(
        shape, judged, data.mean
    )
    return Work(
        shape.parameters,
        trainable,
        parts,
        int(tokens + judged),
        operations,
        imported_bytes=imported_bytes,
        judging_bytes=encoders.judging_bytes(shape, data, texts, compared=compared, vectors=vectors),
    )


def _llm(spec: FinetuneLlm, shapes: Mapping[str, ModelShape], data: DataFacts) -> Work:
    shape, training, full = shapes[BASE_ROLE], spec.training, spec.tuning == "full"
    lora = spec.lora
    targets = None if lora.target_modules == "auto" else lora.target_modules
    adapter = None if full else Adapter.of(lora.rank, targets, lora.modules_to_save, lora.dora)
    trainable = shape.parameters if adapter is None else adapter.parameters(shape)
    head_trained = full or "lm_head" in lora.modules_to_save
    half = training.precision == "bf16" or (training.precision == "auto" and spec.resources.gpus > 0)
    bytes_each = causal.BYTES_BF16 if half else BYTES_FP32
    batch = _micro_batch(spec, data)
    activations = causal.activation_bytes(
        shape, batch, adapter=adapter, checkpointing=training.gradient_checkpointing, bytes_each=bytes_each
    )
    if spec.tuning == "qlora":
        activations += causal.dequantization_bytes(shape, bytes_each)
    parts = MemoryParts(
        weights=_llm_weights(spec, shape, trainable, bytes_each),
        gradients=_gradients_at_peak(_TRAINED_BYTES * trainable, activations, next_share=batch.next_share),
        optimizer=(_MOMENT_BYTES if training.optimizer == "adamw" else _MOMENT_BYTES_8BIT) * trainable,
        activations=activations,
        lm_head=causal.lm_head_bytes(shape, batch, trained=head_trained, bytes_each=bytes_each),
    )
    rows = _of_rows(data, spec.rows)
    held_out = rows * _held_out_share(spec, data)
    if not spec.validation.given and spec.judging_part == "validation":
        held_out = min(held_out, spec.validation.rows_max)
    per_row = data.sequences_per_row * data.mean
    tokens = (rows - held_out) * training.epochs * per_row
    operations = causal.step_operations(
        shape, tokens, data.mean, full=full, checkpointing=training.gradient_checkpointing
    )
    # Base and result are both judged, and preferences need the reference model's opinion of every row once.
    looked_at = 2 * held_out * per_row + (rows * per_row if spec.objective in ("dpo", "kto") else 0)
    operations += forward_operations(shape, looked_at, data.mean)
    operations += OPERATIONS_FORWARD * looked_at * shape.vocabulary * shape.hidden
    parameters = shape.parameters + (0 if full else trainable)
    return Work(
        parameters,
        trainable,
        parts,
        int(tokens + looked_at),
        operations,
        SLACK_SHARE_CAUSAL if full else SLACK_SHARE_ADAPTER,
        imported_bytes=0 if full else IMPORTED_BYTES,
    )


def _llm_weights(spec: FinetuneLlm, shape: ModelShape, trainable: int, bytes_each: int) -> int:
    """Full tuning keeps its weights in fp32; frozen ones are kept as they compute, or in 4 bits."""
    if spec.tuning == "full":
        return _TRAINED_BYTES * shape.parameters
    frozen = causal.weight_bytes(shape, bytes_each=bytes_each, quantized=spec.tuning == "qlora")
    return frozen + _TRAINED_BYTES * trainable


def _micro_batch(spec: FinetuneLlm, data: DataFacts) -> MicroBatch:
    training = spec.training
    pair = 2 if spec.objective in ("dpo", "orpo") else 1
    step = data.tokens(training.batch_size * pair)
    if training.micro_batch_size is not None:
        sequences = min(training.micro_batch_size, training.batch_size) * pair
        tokens = data.tokens(sequences) if training.packing else sequences * data.longest_of(sequences)
    else:
        # A row that is longer than the limit passes alone.
        limit = max(training.micro_batch_tokens or _MICRO_BATCH_TOKENS, pair * data.longest)
        tokens = min(step, limit)
    return MicroBatch(tokens=tokens, longest=data.longest, learnt=tokens, next_share=min(1.0, step / tokens - 1.0))


def _gradients_at_peak(gradients: int, activations: int, next_share: float = 0.0) -> int:
    """What gradients add to the peak of a step's first, and largest, micro-batch.

    A step begins without gradients, and they come as the backward pass gives activations back. From the second
    micro-batch on, `next_share` of the first one's size, all of them are there beside its activations.
    """
    return int(max(0.0, gradients - activations * (1 - next_share)))


def _imported(spec: ImportModel, shapes: Mapping[str, ModelShape], data: DataFacts) -> Work:
    """The weights are read, perhaps converted, and written; nothing passes through the model."""
    shape = shapes[BASE_ROLE]
    return Work(shape.parameters, 0, MemoryParts(weights=BYTES_FP32 * shape.parameters), 0, 0.0)


def _plain(spec: SpecBase, shapes: Mapping[str, ModelShape], data: DataFacts) -> Work:
    """A kind that says nothing of itself: full training with its own batch shape."""
    shape = next(iter(shapes.values()))
    sequences, longest = spec.batch_shape(None)
    known = replace(data, mean=min(data.mean, longest), longest=longest)
    return _trained_encoder(
        spec,
        shape,
        known,
        data.rows,
        sequences=sequences,
        training=EncoderTraining(epochs=1),
        fraction=0.1,
    )


def _held_out_share(spec: TrainingSpec, data: DataFacts) -> float:
    """Of all rows, those that do not train; the default where the spec names rows and nobody has counted them."""
    named = spec.validation.given or (spec.test is not None and spec.test.given)
    if named and data.held_out is not None:
        return data.held_out / data.rows
    # Beside `test` no row need be drawn, so that the fraction is 0.
    usual: float = type(spec.validation).model_fields["fraction"].default
    return spec.validation.fraction or usual


def _of_rows(data: DataFacts, rows: int | None) -> float:
    return data.rows if rows is None else min(rows, data.rows)


def _words_in_use(tokens: float) -> int:
    """Different tokens among so many: Heaps' law, V = 10 n^0.6, as token counts of English and German texts follow it.

    Only the rows of the embedding table that the texts use are trained (`workers.training.word_embeddings`).
    """
    return int(10 * max(1.0, tokens) ** 0.6)


#: Kind -> (spec, shapes, data) -> Work.
ESTIMATORS: Mapping[str, Callable[[Any, Mapping[str, ModelShape], DataFacts], Work]] = MappingProxyType(
    {
        "train-classifier": _classifier,
        "train-embedder": _embedder,
        "train-reranker": _reranker,
        "score-pairs": applied.scored_pairs,
        "predict": applied.predicted,
        "finetune-llm": _llm,
        "import-model": _imported,
        "merge": applied.merged,
        "quantize": quantized,
    }
)
