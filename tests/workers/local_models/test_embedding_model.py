"""Embedders are read and written as sentence-transformers does, and give its embeddings without padding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, StaticEmbedding, Transformer
from torch import nn
from transformers import AutoModel

from tests.models import build_tiny_encoder, build_tiny_tokenizer, labelled_texts
from workers.local_models.embedding_model import load_embedder, write_embedder
from workers.local_models.packed_encoder import token_states, variant_of
from workers.local_models.tokens import batch_of, tokenize
from workers.run.context import RunFailed

ARCHITECTURES = ("bert", "roberta", "xlm-roberta", "distilbert", "modernbert")
TEXTS = [text for text, _ in labelled_texts(40)] + ["", "the " * 90]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_states_of_all_tokens_and_their_gradients_are_those_of_transformers(
    architecture: str, tmp_path: Path
) -> None:
    folder = build_tiny_encoder(tmp_path, architecture, dropout=0.0)
    ours, plain = load_embedder(folder).network.encoder, AutoModel.from_pretrained(folder)
    tokens = tokenize(build_tiny_tokenizer(), TEXTS[:24], 20)
    batch = batch_of(tokens, np.arange(24))
    ids = torch.zeros(batch.mask.shape, dtype=torch.long)
    ids[batch.mask] = batch.ids
    expected = plain(input_ids=ids, attention_mask=batch.mask.long()).last_hidden_state[batch.mask]
    found = token_states(ours, batch, variant_of(ours))
    assert found.shape == (int(tokens.lengths.sum()), 32)
    assert torch.allclose(found, expected, atol=1e-5)
    for states in (expected, found):
        torch.autograd.backward(states.square().mean())
    for (name, theirs), (_, own) in zip(plain.named_parameters(), ours.named_parameters(), strict=True):
        assert (theirs.grad is None) == (own.grad is None), name
        assert theirs.grad is None or torch.allclose(own.grad, theirs.grad, atol=1e-5), name


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
@pytest.mark.parametrize("architecture", ["bert", "distilbert"])
def test_every_pooling_gives_the_embeddings_of_sentence_transformers(
    architecture: str, pooling: str, tmp_path: Path
) -> None:
    encoder = Transformer(str(build_tiny_encoder(tmp_path / "encoder", architecture)))
    reference = SentenceTransformer(
        modules=[
            encoder,
            Pooling(32, pooling_mode=(pooling, "mean")),
            Dense(64, 12, activation_function=nn.Tanh()),
            Normalize(),
        ],
        prompts={"query": "the year "},
        device="cpu",
    )
    reference.save(str(tmp_path / "saved"))
    model = load_embedder(tmp_path / "saved")
    assert (model.dimensions, model.max_tokens, model.prompts) == (12, 62, {"query": "the year "})
    for name in (None, "query"):
        expected = reference.encode(TEXTS, prompt_name=name)
        assert np.allclose(model.encode(TEXTS, prompt_name=name, normalize=False), expected, atol=1e-5)
    written = tmp_path / "written"
    written.mkdir()
    write_embedder(written, model)
    again = SentenceTransformer(str(written), device="cpu")
    assert np.allclose(again.encode(TEXTS, prompt_name="query"), expected, atol=1e-5)


def test_a_plain_encoder_gets_mean_pooling_and_dimensions_can_be_cut(tiny_bert: Path, tmp_path: Path) -> None:
    model = load_embedder(tiny_bert)
    whole = model.encode(TEXTS)
    assert whole.shape == (len(TEXTS), 32) and whole.dtype == np.float32
    assert np.allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    short = model.encode(TEXTS, dimensions=8)
    assert np.allclose(short, whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True), atol=1e-6)
    model.truncate_dim, model.prompts, model.default_prompt_name = 8, {"text": "a report "}, "text"
    write_embedder(tmp_path, model)
    reference = SentenceTransformer(str(tmp_path), device="cpu")
    assert np.allclose(reference.encode(TEXTS, normalize_embeddings=True), model.encode(TEXTS), atol=1e-5)
    assert load_embedder(tmp_path).dimensions == 8


def test_what_an_embedder_does_not_have_is_refused_with_what_it_has(tiny_bert: Path) -> None:
    model = load_embedder(tiny_bert)
    with pytest.raises(ValueError, match="no prompt 'query'; known: it has none"):
        model.encode(["a"], prompt_name="query")
    with pytest.raises(ValueError, match="32 dimensions; 33 can't be had"):
        model.encode(["a"], dimensions=33)
    assert model.encode([]).shape == (0, 32)
    assert model.count_tokens(["the town", "the " * 90]) == [4, 92]


def test_batches_are_reported_and_order_is_kept(tiny_bert: Path) -> None:
    model = load_embedder(tiny_bert)
    done: list[int] = []
    texts = TEXTS * 12
    together = model.encode(texts, after_batch=done.append)
    assert done[-1] == len(texts) and len(done) > 1
    assert np.allclose(together[7], model.encode([texts[7]])[0], atol=1e-5)


def test_static_embeddings_are_read_and_written(tmp_path: Path) -> None:
    table = torch.randn(len(build_tiny_tokenizer()), 16)
    module = StaticEmbedding(build_tiny_tokenizer(), embedding_weights=table)
    reference = SentenceTransformer(modules=[module, Normalize()], device="cpu")
    reference.save(str(tmp_path / "saved"))
    model = load_embedder(tmp_path / "saved")
    assert model.static
    expected = reference.encode(TEXTS)
    assert np.allclose(model.encode(TEXTS, normalize=False), expected, atol=1e-6)
    model.max_tokens = 20
    (tmp_path / "written").mkdir()
    write_embedder(tmp_path / "written", model)
    again, own = SentenceTransformer(str(tmp_path / "written"), device="cpu"), load_embedder(tmp_path / "written")
    assert own.max_tokens == 20
    assert np.allclose(again.encode(TEXTS), own.encode(TEXTS), atol=1e-6)
    assert np.allclose(own.encode(TEXTS[:41]), expected[:41], atol=1e-6)


def test_the_table_of_an_encoder_becomes_a_static_embedding(tiny_bert: Path) -> None:
    model = load_embedder(tiny_bert, static=True)
    assert model.static and model.dimensions == 32 and model.encode([""]).tolist() == [[0.0] * 32]
    ids = model.tokenize(["the town"])
    rows = load_embedder(tiny_bert).network.encoder.get_input_embeddings().weight[torch.from_numpy(ids.ids).long()]
    assert np.allclose(model.encode(["the town"], normalize=False)[0], rows.mean(dim=0).detach(), atol=1e-6)


def _changed(folder: Path, name: str, change: Any) -> None:
    path = folder / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: _changed(f, "config.json", lambda c: c.update(auto_map={"AutoModel": "x.Y"})), "code of its own"),
        (lambda f: _changed(f, "modules.json", lambda c: c[1].update(type="custom.Pooling")), "code of its own"),
        (lambda f: _changed(f, "modules.json", lambda c: c[1].update(path="../elsewhere")), "not a plain relative"),
        (lambda f: _changed(f, "modules.json", lambda c: c[1].update(type="sentence_transformers.LSTM")), "has LSTM"),
        (lambda f: _changed(f, "1_Pooling/config.json", lambda c: c.update(pooling_mode="magic")), "'magic'"),
        (_pickled, "no safetensors"),
    ],
)
def test_folders_that_need_foreign_code_or_are_not_known_are_refused(
    spoil: Any, message: str, tiny_bert: Path, tmp_path: Path
) -> None:
    write_embedder(tmp_path, load_embedder(tiny_bert))
    spoil(tmp_path)
    with pytest.raises(RunFailed, match=message):
        load_embedder(tmp_path)


def test_a_table_that_is_too_small_for_its_tokenizer_is_refused(tmp_path: Path) -> None:
    module = StaticEmbedding(build_tiny_tokenizer(), embedding_dim=4)
    SentenceTransformer(modules=[module], device="cpu").save(str(tmp_path))
    save_file({"embedding.weight": torch.zeros(3, 4)}, tmp_path / "model.safetensors")
    with pytest.raises(RunFailed, match="embeddings for 3"):
        load_embedder(tmp_path)
