"""Perplexity by the forward pass that trains, against the library's own loss."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.language_models import build_tiny_chat_tokenizer, build_tiny_llm
from workers.judging.perplexity import Pieces, perplexity_of, pieces_of
from workers.local_models.base_model import LoadedModel, load_causal_lm
from workers.training.llm.decoder import decoder_of
from workers.training.llm.likelihood import log_probs_of

_TEXTS = ["The river rose by night.", "A lantern in the garden, a friend at the gate.", "Brot und Käse", "rust"]
_CPU = torch.device("cpu")


def _log_probs(loaded: LoadedModel, pieces: Pieces) -> np.ndarray:
    return log_probs_of(decoder_of(loaded.model, pad_id=loaded.pad_id, packing=True), pieces, _CPU)


def test_perplexity_is_that_of_the_librarys_own_loss(tmp_path: Path) -> None:
    loaded = load_causal_lm(build_tiny_llm(tmp_path / "model"))
    pieces = pieces_of(loaded.tokenizer, _TEXTS, max_tokens=16)

    found = perplexity_of(_log_probs(loaded, pieces), pieces)

    reference = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    nats = tokens = 0.0
    for text in _TEXTS:
        ids = loaded.tokenizer(text)["input_ids"]
        for start in range(0, len(ids), 16):
            piece = torch.tensor([ids[start : start + 16]])
            if piece.shape[1] > 1:
                with torch.inference_mode():
                    nats += float(reference(input_ids=piece, labels=piece).loss) * (piece.shape[1] - 1)
                tokens += piece.shape[1] - 1
    assert found.tokens == tokens
    assert found.perplexity.value == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert found.bits_per_byte.value == pytest.approx(
        nats / math.log(2) / sum(len(text.encode()) for text in _TEXTS), rel=1e-5
    )


def test_two_models_on_the_same_texts_share_their_resamples(tmp_path: Path) -> None:
    first, second = (load_causal_lm(build_tiny_llm(tmp_path / str(seed), seed=seed)) for seed in (7, 8))
    pieces = pieces_of(first.tokenizer, _TEXTS)

    one, same, other = (perplexity_of(_log_probs(model, pieces), pieces) for model in (first, first, second))

    assert np.array_equal(one.resampled_bits, same.resampled_bits)
    assert not np.array_equal(one.resampled_bits, other.resampled_bits)
    assert one.perplexity.low < one.perplexity.value < one.perplexity.high
    assert one.as_json()["texts"] == len(_TEXTS)


def test_whole_texts_are_resampled_not_their_pieces() -> None:
    tokenizer = build_tiny_chat_tokenizer()
    pieces = pieces_of(tokenizer, ["ab" * 50, "cd" * 50], max_tokens=10)

    found = perplexity_of(-pieces.tokens.astype(np.float64) * (1 + pieces.texts), pieces)

    # Two texts can be drawn in three ways: twice the first, twice the second, or both.
    assert len(pieces.ids) == 20
    assert set(np.round(found.resampled_bits * math.log(2) / 0.9, 6)) == {1.0, 1.5, 2.0}


def test_texts_without_two_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to predict"):
        pieces_of(build_tiny_chat_tokenizer(), ["a", ""])
