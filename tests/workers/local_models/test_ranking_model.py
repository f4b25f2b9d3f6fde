"""Pairs through a cross-encoder: the packed forward pass and the loaded model equal the libraries' own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from torch.nn import functional

from tests.models import build_tiny_encoder, labelled_texts
from workers.local_models.base_model import LoadedModel, load_base, load_scorer
from workers.local_models.packed_encoder import classify, variant_of
from workers.local_models.ranking_model import load_reranker, sigmoid
from workers.local_models.tokens import TokenBatch, batch_of, tokenize_pairs
from workers.run.context import RunFailed
from workers.training.word_embeddings import compact

ARCHITECTURES = ("bert", "roberta", "xlm-roberta", "distilbert", "modernbert")
TEXTS = [text for text, _ in labelled_texts(24)]
PAIRS = list(zip(TEXTS[:12], TEXTS[12:], strict=True))


def load(folder: Path, architecture: str) -> LoadedModel:
    base = build_tiny_encoder(folder / architecture, architecture, dropout=0.0)
    if architecture == "bert":
        tell_types(base)
    return load_scorer(base, seed=5)


def tell_types(base: Path) -> None:
    """Makes the tokenizer of a folder tell token types, as that of a real BERT does."""
    path = base / "tokenizer_config.json"
    names = ["input_ids", "token_type_ids", "attention_mask"]
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_input_names": names}))


def saved(folder: Path, architecture: str) -> Path:
    loaded = load(folder, architecture)
    loaded.model.save_pretrained(folder / "saved")
    loaded.tokenizer.save_pretrained(folder / "saved")
    return folder / "saved"


def plain_logits(loaded: LoadedModel, pairs: list[tuple[str, str]], max_length: int) -> torch.Tensor:
    """What transformers computes from the tokenizer's own padded batch."""
    inputs = loaded.tokenizer(
        [first for first, _ in pairs],
        [second for _, second in pairs],
        truncation=True,
        max_length=max_length,
        padding=True,
        return_tensors="pt",
    )
    if not loaded.has_types:
        inputs.pop("token_type_ids", None)
    outputs: torch.Tensor = loaded.model(**inputs).logits
    return outputs


def batch(loaded: LoadedModel, max_length: int) -> TokenBatch:
    table = tokenize_pairs(loaded.tokenizer, PAIRS, max_length, types=loaded.has_types)
    return batch_of(table, np.arange(len(PAIRS)))


@pytest.mark.parametrize("max_length", [12, 60])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pairs_give_the_logits_and_gradients_of_transformers(
    architecture: str, max_length: int, tmp_path: Path
) -> None:
    loaded = load(tmp_path, architecture)
    labels = torch.linspace(0, 1, len(PAIRS))
    forwards: list[Callable[[], torch.Tensor]] = [
        lambda: plain_logits(loaded, PAIRS, max_length),
        lambda: classify(loaded.model, batch(loaded, max_length), variant_of(loaded.model), loaded.pad_id),
    ]
    results = []
    for forward in forwards:
        loaded.model.zero_grad()
        outputs = forward()
        torch.autograd.backward(functional.binary_cross_entropy_with_logits(outputs[:, 0], labels))
        results.append((outputs, {n: p.grad for n, p in loaded.model.named_parameters() if p.grad is not None}))
    (plain, plain_gradients), (ours, our_gradients) = results
    assert torch.allclose(plain, ours, atol=1e-5, rtol=0)
    assert plain_gradients.keys() == our_gradients.keys()
    for name, gradient in plain_gradients.items():
        assert torch.allclose(gradient, our_gradients[name], atol=1e-5), name


def test_the_second_text_of_a_pair_is_of_another_type(tmp_path: Path) -> None:
    loaded = load(tmp_path, "bert")
    types = batch(loaded, 60).types
    assert types is not None and set(types.tolist()) == {0, 1}
    loaded.model.train(False)
    untyped = replace(batch(loaded, 60), types=None)
    with_types = classify(loaded.model, batch(loaded, 60), "packed")
    assert not torch.allclose(with_types, classify(loaded.model, untyped, "packed"))


def test_models_of_one_type_are_told_none(tmp_path: Path) -> None:
    loaded = load(tmp_path, "distilbert")
    assert not loaded.has_types
    assert batch(loaded, 60).types is None


def test_types_stay_with_the_tokens_when_the_embeddings_are_reduced(tmp_path: Path) -> None:
    loaded = load(tmp_path, "bert")
    loaded.model.train(False)
    table = tokenize_pairs(loaded.tokenizer, PAIRS, 60, types=True)
    whole = classify(loaded.model, batch_of(table, np.arange(12)), "packed")
    _, small = compact(loaded.model, table)
    assert torch.allclose(whole, classify(loaded.model, batch_of(small, np.arange(12)), "packed"), atol=1e-6)


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_scores_are_those_of_the_cross_encoder_library(architecture: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, architecture)
    ranker, library = load_reranker(folder), CrossEncoder(str(folder), device="cpu")
    logits = library.predict(PAIRS, activation_fn=torch.nn.Identity())
    assert np.abs(ranker.score_pairs(PAIRS, raw=True) - logits).max() < 1e-5
    assert np.abs(ranker.score_pairs(PAIRS) - library.predict(PAIRS)).max() < 1e-5
    ranked = library.rank(PAIRS[0][0], TEXTS[12:])
    ours = ranker.score(PAIRS[0][0], TEXTS[12:])
    assert np.argsort(-ours).tolist() == [hit["corpus_id"] for hit in ranked]


def test_a_score_doesnt_depend_on_the_other_pairs_and_none_are_fine(tmp_path: Path) -> None:
    ranker = load_reranker(saved(tmp_path, "bert"))
    together = ranker.score_pairs(PAIRS)
    assert np.allclose(together[3], ranker.score_pairs(PAIRS[3:4]), atol=1e-6)
    assert ranker.score_pairs([]).shape == (0,)


def test_tokens_are_counted_as_they_are_read(tmp_path: Path) -> None:
    ranker = load_reranker(saved(tmp_path, "bert"))
    assert ranker.count_tokens([("the town", "a river"), ("the " * 80, "a river")]) == [7, ranker.max_tokens]


def test_after_each_batch_the_pairs_done_are_told(tmp_path: Path) -> None:
    told: list[int] = []
    load_reranker(saved(tmp_path, "bert")).score_pairs(PAIRS * 50, after_batch=told.append)
    assert told == sorted(told) and told[-1] == 600


def test_a_model_of_several_classes_is_no_reranker(tmp_path: Path) -> None:
    loaded = load_base(build_tiny_encoder(tmp_path / "base"), ("a", "b"), seed=1)
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.tokenizer.save_pretrained(tmp_path / "saved")
    with pytest.raises(RunFailed, match="2 outputs"):
        load_reranker(tmp_path / "saved")


def test_a_head_is_known_to_be_the_folders_own_or_new(tmp_path: Path) -> None:
    assert not load(tmp_path, "bert").has_head
    assert load_scorer(saved(tmp_path, "bert"), seed=9).has_head


def test_the_sigmoid_neither_overflows_nor_leaves_its_range() -> None:
    scores = sigmoid(np.array([-1e4, -2.0, 0.0, 2.0, 1e4], dtype=np.float32))
    assert scores.tolist()[::2] == [0.0, 0.5, 1.0]
    assert np.isclose(scores[1] + scores[3], 1.0)
