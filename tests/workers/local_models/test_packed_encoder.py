from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch.nn import functional

from jobspecs.kinds.train_classifier import ClassifierTraining
from tests.models import build_tiny_encoder, labelled_texts
from workers.local_models import linear
from workers.local_models.base_model import LoadedModel, load_base
from workers.local_models.packed_encoder import classify, encoder_of, token_states, variant_of
from workers.local_models.tokens import TokenBatch, TokenTable, batch_of, tokenize
from workers.training.batches import BatchPlan
from workers.training.optimization import build_optimizer, learning_rate, set_learning_rate
from workers.training.word_embeddings import compact, decay_of

ARCHITECTURES = ("bert", "roberta", "xlm-roberta", "distilbert", "modernbert")


def load(folder: Path, architecture: str, dropout: float = 0.0) -> tuple[LoadedModel, TokenTable]:
    path = build_tiny_encoder(folder / architecture, architecture, dropout)
    loaded = load_base(path, ("bad", "good"), seed=1, dropout=dropout)
    tokens = tokenize(loaded.tokenizer, [text for text, _ in labelled_texts(24)], 20)
    return loaded, tokens


def plain_logits(loaded: LoadedModel, batch: TokenBatch) -> torch.Tensor:
    """What the library itself computes, padded to the longest text."""
    ids = torch.full(batch.mask.shape, loaded.pad_id)
    ids[batch.mask] = batch.ids
    logits: torch.Tensor = loaded.model(input_ids=ids, attention_mask=batch.mask.long()).logits
    return logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("onednn", [False, True])
def test_our_forward_and_gradients_equal_those_of_transformers(
    architecture: str, onednn: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "prefers_onednn", lambda: onednn)
    loaded, tokens = load(tmp_path, architecture)
    loaded.model.train()
    rows = np.arange(24)
    labels = torch.arange(24) % 2
    gradients = []
    for forward in (plain_logits, lambda m, b: classify(m.model, b, variant_of(m.model), m.pad_id)):
        loaded.model.zero_grad()
        logits = forward(loaded, batch_of(tokens, rows))
        torch.autograd.backward(functional.cross_entropy(logits, labels))
        gradients.append((logits, {n: p.grad for n, p in loaded.model.named_parameters() if p.grad is not None}))
    (plain, plain_gradients), (ours, our_gradients) = gradients
    assert torch.allclose(plain, ours, atol=1e-5, rtol=0)
    assert plain_gradients.keys() == our_gradients.keys()
    for name, gradient in plain_gradients.items():
        assert torch.allclose(gradient, our_gradients[name], atol=1e-5), name


def test_bert_and_its_kin_run_packed_and_others_padded(tmp_path: Path) -> None:
    variants = {name: variant_of(load(tmp_path, name)[0].model) for name in ARCHITECTURES}
    assert variants == {
        "bert": "packed",
        "roberta": "packed",
        "xlm-roberta": "packed",
        "distilbert": "padded",
        "modernbert": "padded",
    }


def test_texts_of_equal_length_need_no_mask_and_give_the_same(tmp_path: Path) -> None:
    loaded, _ = load(tmp_path, "bert")
    loaded.model.train(False)
    batch = batch_of(tokenize(loaded.tokenizer, ["the town", "a river"], 20), np.arange(2))
    assert torch.allclose(plain_logits(loaded, batch), classify(loaded.model, batch, "packed"), atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_answers_without_any_padding_are_those_of_the_library(architecture: str, tmp_path: Path) -> None:
    loaded, tokens = load(tmp_path, architecture)
    loaded.model.train(False)
    rows = np.argsort(-tokens.lengths, kind="stable")
    assert len(set(tokens.lengths)) > 2, "runs of several lengths"
    for order in (rows, rows[::-1].copy(), np.arange(24), rows[:1]):
        batch = batch_of(tokens, order)
        with torch.inference_mode():
            ours = classify(loaded.model, batch, "packed")
            states = token_states(encoder_of(loaded.model), batch, "packed")
        assert torch.allclose(plain_logits(loaded, batch), ours, atol=1e-5, rtol=0)
        assert torch.allclose(token_states(encoder_of(loaded.model), batch, "packed"), states, atol=1e-5, rtol=0)


def test_dropout_is_at_work_in_training_only(tmp_path: Path) -> None:
    loaded, tokens = load(tmp_path, "bert", dropout=0.5)
    batch = batch_of(tokens, np.arange(8))
    loaded.model.train()
    assert not torch.equal(classify(loaded.model, batch, "packed"), classify(loaded.model, batch, "packed"))
    loaded.model.train(False)
    assert torch.equal(classify(loaded.model, batch, "packed"), classify(loaded.model, batch, "packed"))


def test_training_the_used_embeddings_alone_equals_training_the_whole_table(tmp_path: Path) -> None:
    training = {"weight_decay": 0.1, "learning_rate": 1e-2, "warmup_fraction": 0.0, "schedule": "linear"}
    weights = [_embeddings_after_training(tmp_path, training, reduced) for reduced in (False, True)]
    assert weights[0].shape == weights[1].shape
    assert torch.allclose(weights[0], weights[1], atol=1e-6)


def _embeddings_after_training(folder: Path, settings: dict[str, object], reduced: bool) -> torch.Tensor:
    training = ClassifierTraining.model_validate(settings)
    loaded, tokens = load(folder, "bert")
    loaded.model.train()
    labels = torch.arange(24) % 2
    set_aside = None
    if reduced:
        set_aside, tokens = compact(loaded.model, tokens)
    optimizer = build_optimizer(loaded.model, training)
    rates = [learning_rate(step, 5, training) for step in range(5)]
    for rate in rates:
        optimizer.zero_grad()
        logits = classify(loaded.model, batch_of(tokens, np.arange(24)), "packed")
        torch.autograd.backward(functional.cross_entropy(logits, labels))
        set_learning_rate(optimizer, rate)
        optimizer.step()
    if set_aside is not None:
        set_aside.restore(loaded.model, decay_of(rates, training.weight_decay))
    return cast(torch.nn.Embedding, loaded.model.get_input_embeddings()).weight.detach()


def test_each_epoch_shows_every_text_once_in_an_order_of_its_own() -> None:
    plan = BatchPlan(np.arange(1, 51), 8, 2.5, seed=5, grouped=False)
    assert (plan.steps_per_epoch, plan.steps_total) == (7, 18)
    epochs = [np.concatenate([plan.rows(epoch * 7 + step) for step in range(7)]) for epoch in range(2)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    assert np.array_equal(plan.rows(3), BatchPlan(np.arange(1, 51), 8, 1, seed=5, grouped=False).rows(3))


def test_grouped_batches_hold_texts_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 400)
    plan = BatchPlan(lengths, 8, 1, seed=5, grouped=True)
    batches = [plan.rows(step) for step in range(plan.steps_total)]
    assert sorted(np.concatenate(batches)) == list(range(400))
    assert max(np.ptp(lengths[batch]) for batch in batches) <= 10
