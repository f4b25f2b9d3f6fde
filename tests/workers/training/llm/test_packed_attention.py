from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.language_models import build_tiny_llm
from workers.local_models import linear
from workers.local_models.base_model import load_causal_lm
from workers.training.llm.decoder import Decoder, decoder_of, own_attention
from workers.training.llm.sequences import Sequences, batch_of, sequences_of

LENGTHS = (3, 20, 1, 21, 44, 9)


def random_sequences(vocabulary: int, lengths: tuple[int, ...] = LENGTHS) -> Sequences:
    generator = np.random.default_rng(3)
    return sequences_of((generator.integers(0, vocabulary, n), [i >= n // 2 for i in range(n)]) for n in lengths)


def loaded(folder: Path, *, packing: bool = True) -> Decoder:
    model = load_causal_lm(folder).model
    linear.use_in(model)
    return decoder_of(model.train(False), pad_id=0, packing=packing)


def assert_like_one_by_one(decoder: Decoder) -> None:
    """Logits of a batch equal those of each sequence alone through the model's own forward pass."""
    sequences = random_sequences(decoder.inner.config.vocab_size)
    batch = batch_of(sequences, np.arange(len(sequences)))
    with torch.inference_mode():
        logits = decoder.head.logits(decoder.hidden(batch))
        with own_attention(decoder):
            for position, row in enumerate(batch.order):
                ids = torch.from_numpy(sequences.ids[sequences.offsets[row] : sequences.offsets[row + 1]]).long()
                alone = decoder.inner(input_ids=ids[None]).logits[0]
                difference = (logits[batch.rows == position] - alone).abs().max()
                assert float(difference) <= 1e-5 * max(1.0, float(alone.abs().max()))


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral"])
def test_no_sequence_sees_another(architecture: str, tmp_path: Path) -> None:
    decoder = loaded(build_tiny_llm(tmp_path, architecture))
    assert decoder.variant == "packed"
    assert_like_one_by_one(decoder)


def test_a_trained_llama_gives_the_same_logits_packed(stories: Path) -> None:
    decoder = loaded(stories)
    assert decoder.variant == "packed"
    assert_like_one_by_one(decoder)


def test_padding_is_chosen_where_asked_and_where_attention_has_soft_caps(tmp_path: Path) -> None:
    llama = loaded(build_tiny_llm(tmp_path / "llama"), packing=False)
    gemma = loaded(build_tiny_llm(tmp_path / "gemma", "gemma2"))
    assert (llama.variant, gemma.variant) == ("padded", "padded")
    assert_like_one_by_one(llama)
    assert_like_one_by_one(gemma)


def test_a_model_that_loses_the_layout_is_padded_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Decoder, "_boundaries", lambda self, batch: {})
    assert loaded(build_tiny_llm(tmp_path)).variant == "padded"


def test_gradients_of_packed_and_padded_sequences_agree(tmp_path: Path) -> None:
    folder = build_tiny_llm(tmp_path, "qwen3")
    found = []
    for packing in (True, False):
        decoder = loaded(folder, packing=packing)
        sequences = random_sequences(decoder.inner.config.vocab_size)
        torch.autograd.backward(decoder.hidden(batch_of(sequences, np.arange(len(sequences)))).square().sum())
        found.append({name: p.grad for name, p in decoder.model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and found[0]
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], rtol=1e-4, atol=1e-4), name
