"""Estimates: what must hold whatever the numbers are, and orders of magnitude that are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobspecs.estimate import Estimate
from jobspecs.kinds.base import Resources, SpecBase
from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.kinds.train_classifier import TrainClassifier
from jobspecs.kinds.train_embedder import TrainEmbedder
from jobspecs.kinds.train_reranker import TrainReranker
from jobspecs.registry import parse_spec
from scheduling.estimates.data import DataFacts
from scheduling.estimates.estimating import KnownModel, admission_bytes, estimate
from scheduling.estimates.serving import (
    ANSWERS_MAX,
    CACHED_TOKENS_MAX,
    cache_bytes_per_token,
    cached_tokens,
    encoder_bytes,
    language_model_bytes,
)
from scheduling.estimates.shapes import ModelShape, shape_of

MIB, GIB = 2**20, 2**30
MINILM = {
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "attention_probs_dropout_prob": 0.1,
}
SMOLLM2 = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
HEADLINES = DataFacts(rows=10_000, sequences_per_row=1, mean=24, deviation=5, longest=40)
CHATS = DataFacts(rows=1_000, sequences_per_row=1, mean=200, deviation=130, longest=750)


def shape(config: dict[str, Any]) -> ModelShape:
    found = shape_of(config)
    assert found is not None
    return found


def of(spec: SpecBase, config: dict[str, Any], data: DataFacts, **rest: Any) -> Estimate:
    return estimate(spec, {"model": KnownModel(shape(config), None)}, data, **rest)


def classifier(**training: Any) -> TrainClassifier:
    document = {"kind": "train-classifier", "name": "n", "model": "m", "dataset": "d", "text": "t", "label": "l"}
    return TrainClassifier.model_validate({**document, "training": training})


def llm(tuning: str = "lora", gpus: int = 0, lora: dict[str, Any] | None = None, **training: Any) -> FinetuneLlm:
    document = {"kind": "finetune-llm", "name": "n", "model": "m", "dataset": "d", "tuning": tuning}
    return FinetuneLlm.model_validate(
        {**document, "resources": {"gpus": gpus}, "lora": lora or {}, "training": training}
    )


@pytest.mark.parametrize("wrong", [5, -1, True, "x", [1], {"a": 1}, 10**400, float("inf"), float("nan"), 0.5, None, {}])
def test_any_json_in_any_place_of_a_configuration_gives_a_shape_that_can_be_or_none(wrong: Any) -> None:
    for field in [*SMOLLM2, "attention_dropout", "architectures", "model_type", "head_dim", "n_inner"]:
        shape = shape_of({**SMOLLM2, field: wrong})
        if shape is not None:
            assert language_model_bytes(shape) < 2**60
            assert 0 <= shape.attention_dropout <= 1


def test_the_parameters_of_known_models_come_from_their_configurations() -> None:
    assert shape(MINILM).parameters == pytest.approx(22.7e6, rel=0.01)
    assert shape(SMOLLM2).parameters == pytest.approx(134.5e6, rel=0.01)
    assert shape_of({"model_type": "bert"}) is None


def test_an_adapter_trains_rank_times_inputs_and_outputs_of_every_matrix() -> None:
    made = of(llm(lora={"rank": 16}), SMOLLM2, CHATS)
    # peft's own count for SmolLM2-135M with r=16 on all linear layers.
    assert made.trainable_parameters == 4_884_480
    assert made.main_memory.optimizer == 8 * made.trainable_parameters
    only_queries = of(llm(lora={"rank": 16, "target_modules": ["q_proj"]}), SMOLLM2, CHATS)
    assert only_queries.trainable_parameters == 30 * 16 * (576 + 576)


def test_gradients_add_to_the_peak_where_they_stand_beside_activations() -> None:
    """A step of one micro-batch gives activations back while gradients come; a step of several holds both."""
    one, several = (
        of(llm("full", batch_size=8, micro_batch_tokens=limit), SMOLLM2, CHATS).main_memory for limit in (8192, 1024)
    )
    assert one.gradients == max(0, 4 * shape(SMOLLM2).parameters - one.activations)
    assert several.gradients == 4 * shape(SMOLLM2).parameters
    for memory in (one, several):
        assert memory.weights + memory.optimizer == 12 * shape(SMOLLM2).parameters


def test_quantized_layers_take_half_a_byte_per_weight_and_embeddings_stay_whole() -> None:
    lora, qlora = (of(llm(tuning), SMOLLM2, CHATS).main_memory for tuning in ("lora", "qlora"))
    layers = 30 * shape(SMOLLM2).layer_parameters
    assert lora.weights - qlora.weights == pytest.approx(layers * (4 - 0.516), rel=0.001)
    assert lora.optimizer == qlora.optimizer


def test_the_lm_head_holds_a_chunk_of_logits_and_never_all_of_them() -> None:
    head = of(llm(micro_batch_tokens=4096), SMOLLM2, CHATS).main_memory.lm_head
    assert head < 0.2 * 4096 * 49152 * 4


def test_gradient_checkpointing_saves_activations_and_costs_operations() -> None:
    plain, saving = of(llm(), SMOLLM2, CHATS), of(llm(gradient_checkpointing=True), SMOLLM2, CHATS)
    assert saving.main_memory.activations < plain.main_memory.activations / 5
    assert saving.operations > 1.2 * plain.operations


def test_on_a_gpu_the_host_holds_the_weights_alone() -> None:
    made = of(llm(gpus=1), SMOLLM2, CHATS)
    assert made.gpu_memory is not None
    assert made.gpu_memory.activations > 0
    assert made.main_memory.activations == made.main_memory.optimizer == 0
    assert made.gpu_memory.weights < of(llm(), SMOLLM2, CHATS).main_memory.weights


def test_the_cached_loss_needs_the_memory_of_its_mini_batch_only() -> None:
    document = {"kind": "train-embedder", "name": "n", "model": "m", "dataset": "d", "anchor": "a", "positive": "p"}
    plain = TrainEmbedder.model_validate({**document, "training": {"batch_size": 1024}})
    cached = TrainEmbedder.model_validate({**document, "training": {"batch_size": 1024, "mini_batch_size": 32}})
    memory = [of(spec, MINILM, HEADLINES).main_memory.activations for spec in (plain, cached)]
    assert memory[0] > 20 * memory[1]


def test_mined_negatives_are_texts_of_a_step_too() -> None:
    document = {"kind": "train-embedder", "name": "n", "model": "m", "dataset": "d", "anchor": "a", "positive": "p"}
    plain, mined = (
        of(TrainEmbedder.model_validate({**document, **more}), MINILM, HEADLINES).main_memory.activations
        for more in ({}, {"hard_negatives": {"num_negatives": 2}})
    )
    assert mined > 1.5 * plain


def test_frozen_embeddings_are_not_trained() -> None:
    frozen = of(classifier(freeze_embeddings=True), MINILM, HEADLINES)
    assert frozen.trainable_parameters < of(classifier(), MINILM, HEADLINES).trainable_parameters


def test_a_small_encoder_fits_a_laptop() -> None:
    made = of(classifier(), MINILM, HEADLINES)
    assert 400 * MIB < made.main_memory.total < 1024 * MIB
    assert made.main_memory.total < admission_bytes(made) < 2.5 * GIB


def test_jobs_of_nearly_one_size_ask_for_the_same_memory() -> None:
    asked = {admission_bytes(of(classifier(batch_size=size), MINILM, HEADLINES)) for size in range(30, 35)}
    assert len(asked) <= 2
    assert all(each % (64 * MIB) == 0 for each in asked)


@given(
    batch=st.integers(1, 2048),
    rows=st.integers(10, 10**7),
    mean=st.floats(4, 500),
    epochs=st.floats(0.1, 50),
)
def test_more_of_anything_never_takes_less(batch: int, rows: int, mean: float, epochs: float) -> None:
    def made(batch: int, rows: int, mean: float, epochs: float) -> Estimate:
        data = DataFacts(rows, 1, mean, mean / 4, longest=1000)
        return of(classifier(batch_size=batch, epochs=epochs, max_length=1000), MINILM, data)

    least = made(batch, rows, mean, epochs)
    for more in (made(2 * batch, rows, mean, epochs), made(batch, 2 * rows, mean, epochs)):
        assert more.main_memory.total >= least.main_memory.total
    assert made(batch, rows, 1.5 * mean, epochs).main_memory.total >= least.main_memory.total
    assert made(batch, rows, mean, 2 * epochs).operations > least.operations


def test_the_band_comes_from_earlier_jobs_once_there_are_some() -> None:
    assumed = of(classifier(), MINILM, HEADLINES).duration
    assert assumed.basis == "assumed"
    assert assumed.low_s < assumed.high_s
    made = of(classifier(), MINILM, HEADLINES, speeds=(30e9, 20e9, 25e9))
    assert made.duration.basis == "measured"
    assert made.duration.low_s < made.operations / 25e9 < made.duration.high_s


def test_jobs_on_other_models_count_in_a_wider_band_and_that_is_said() -> None:
    same = of(classifier(), MINILM, HEADLINES, speeds=(25e9,), other_speeds=(1e9,))
    assert not any("on this model" in line for line in same.assumptions)
    made = of(classifier(), MINILM, HEADLINES, other_speeds=(25e9,))
    assert made.duration.basis == "measured"
    assert made.duration.low_s < same.duration.low_s < same.duration.high_s < made.duration.high_s
    assert "No job of this kind has finished here on this model" in made.assumptions[-1]


def test_an_unknown_model_is_taken_for_a_usual_one_of_its_size_and_that_is_said() -> None:
    made = estimate(classifier(), {"model": KnownModel(None, 440_000_000)}, HEADLINES)
    assert made.parameters == pytest.approx(109e6, rel=0.05)
    assert "not known" in made.assumptions[0]


def test_serving_holds_the_weights_twice_while_they_load() -> None:
    assert encoder_bytes(90_900_000) > 2 * 90_900_000


def test_a_language_models_engine_admits_what_its_memory_was_reckoned_with() -> None:
    known = shape_of(SMOLLM2)
    assert known is not None
    shape = replace(known, positions=8192)
    memory_bytes = language_model_bytes(shape)
    assert cached_tokens(shape, memory_bytes) == CACHED_TOKENS_MAX
    assert cached_tokens(shape, memory_bytes - 1000 * cache_bytes_per_token(shape)) == CACHED_TOKENS_MAX - 1000
    assert cached_tokens(shape, 2**29) < 1
    # A short context needs no room for more answers than grow at once.
    short = replace(shape, positions=512)
    assert cached_tokens(short, language_model_bytes(short)) >= ANSWERS_MAX * 512
    assert language_model_bytes(short) < memory_bytes


def test_on_a_gpu_keys_and_values_take_no_main_memory() -> None:
    shape = shape_of(SMOLLM2)
    assert shape is not None
    assert language_model_bytes(shape, on_gpu=True) < encoder_bytes(4 * shape.parameters)


def test_passes_left_open_need_room_for_the_best_weights_too() -> None:
    fixed, left_open = (of(classifier(epochs=epochs), MINILM, HEADLINES) for epochs in (4, "auto"))
    assert left_open.main_memory.weights - fixed.main_memory.weights == 4 * fixed.trainable_parameters


def test_gradients_of_an_encoder_stay_beside_its_activations_on_a_cpu() -> None:
    on_cpu, on_gpu = (
        classifier(batch_size=128),
        classifier(batch_size=128).model_copy(update={"resources": Resources(gpus=1)}),
    )
    memory = of(on_cpu, MINILM, HEADLINES).main_memory
    assert memory.activations > memory.gradients == 4 * of(on_cpu, MINILM, HEADLINES).trainable_parameters
    assert of(on_gpu, MINILM, HEADLINES).gpu_memory.gradients == 0  # type: ignore[union-attr]


def test_judging_beside_another_model_is_the_peak_where_little_is_trained() -> None:
    document = {"kind": "train-reranker", "name": "n", "model": "m", "dataset": "d", "query": "q", "passage": "p"}
    frozen = {"batch_size": 1, "epochs": 1, "freeze_embeddings": True}
    spec = TrainReranker.model_validate({**document, "label": "l", "training": frozen})
    multilingual = {**MINILM, "vocab_size": 250_037}
    weights = 4 * shape(multilingual).parameters
    # The trained model, and the other one as read and as used; a classifier is compared with no second model.
    assert 3 * weights < of(spec, multilingual, HEADLINES).main_memory.total < 3.7 * weights
    assert of(classifier(**frozen), multilingual, HEADLINES).main_memory.total < 2.6 * weights


def test_libraries_that_a_job_imports_itself_are_counted() -> None:
    document = {"kind": "train-embedder", "name": "n", "model": "m", "dataset": "d"}
    own, library = (
        of(TrainEmbedder.model_validate({**document, **columns}), MINILM, HEADLINES).main_memory
        for columns in (
            {"anchor": "a", "positive": "p"},
            {"sentence1": "a", "sentence2": "b", "score": "s", "score_range": [0, 1]},
        )
    )
    assert library.activations == own.activations
    assert library.runtime - own.runtime > 90e6


def test_passages_that_are_searched_take_memory_for_their_vectors() -> None:
    document = {"kind": "train-embedder", "name": "n", "model": "m", "dataset": "d", "anchor": "a", "positive": "p"}
    spec = TrainEmbedder.model_validate({**document, "training": {"batch_size": 2, "epochs": 1}})
    few, many = (of(spec, MINILM, replace(HEADLINES, rows=rows)).main_memory.total for rows in (4_000, 10_000))
    assert many - few > 3 * 4 * 384 * 5_000


@pytest.mark.parametrize("data", [HEADLINES, replace(HEADLINES, held_out=0), replace(HEADLINES, rows=0)])
def test_a_spec_that_names_its_judging_rows_is_estimated_before_anybody_counted_them(data: DataFacts) -> None:
    named = {"test": {"dataset": "official"}}
    columns = {"anchor": "t", "positive": "l"}
    document = {"name": "n", "model": "m", "dataset": "d", **named}
    for spec in (
        TrainClassifier.model_validate({**document, "kind": "train-classifier", "text": "t", "label": "l"}),
        TrainEmbedder.model_validate({**document, "kind": "train-embedder", **columns}),
        TrainReranker.model_validate({**document, "kind": "train-reranker", "query": "t", "positive": "l"}),
    ):
        assert of(spec, MINILM, data).main_memory.total > 0


def test_models_that_are_applied_one_after_the_other_need_the_memory_of_the_largest() -> None:
    small, large = (KnownModel(shape(config), None) for config in (MINILM, {**MINILM, "num_hidden_layers": 12}))
    told = {"kind": "evaluate", "name": "e", "dataset": "d@1", "task": "similarity", "pair": ["a", "b"], "score": "s"}
    both = estimate(parse_spec({**told, "models": ["x@1", "y@1"]}), {"model": small, "model2": large}, HEADLINES)
    one = estimate(parse_spec({**told, "models": ["y@1"]}), {"model": large}, HEADLINES)
    assert both.main_memory == one.main_memory and both.tokens == 2 * one.tokens
    prediction = parse_spec({"kind": "predict", "name": "p", "model": "y@1", "dataset": "d@1", "text": "a"})
    assert estimate(prediction, {"model": large}, HEADLINES).main_memory == one.main_memory


def test_answers_need_room_for_keys_and_values_and_likelihoods_do_not() -> None:
    model = {"model": KnownModel(shape(SMOLLM2), None)}
    told = {"kind": "predict", "name": "p", "model": "m@1", "dataset": "d@1", "prompt": "{a}"}
    short, long = (
        estimate(parse_spec({**told, "generation": {"max_new_tokens": tokens}}), model, CHATS) for tokens in (32, 512)
    )
    assert long.main_memory.total > short.main_memory.total and long.tokens > short.tokens
    likely = parse_spec(
        {"kind": "evaluate", "name": "e", "models": ["m@1"], "dataset": "d@1", "task": "perplexity", "text": "a"}
    )
    assert estimate(likely, model, CHATS).main_memory.total < long.main_memory.total


def test_a_linear_model_needs_memory_for_its_n_grams_and_says_nothing_of_how_fast_encoders_are() -> None:
    """10,000 headlines took 143 MiB beside the libraries."""
    document = {"kind": "train-classifier", "name": "n", "model": "builtin:tfidf-svm", "dataset": "d"}
    spec = TrainClassifier.model_validate({**document, "text": "t", "label": "l"})
    headlines = DataFacts(rows=10_000, sequences_per_row=1, mean=17, deviation=4, longest=40)
    made = estimate(spec, {}, headlines, (), [5e10])
    assert made.operations == 0 and made.duration.basis == "assumed" and made.duration.high_s > 0
    assert 143 * 2**20 < made.main_memory.total < 2 * 143 * 2**20 + 70 * 2**20
    assert estimate(spec, {}, replace(headlines, rows=100_000)).main_memory.total > 5 * made.main_memory.total
