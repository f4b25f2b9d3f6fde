"""A tiny real classifier on disk, written without torch: the tests of the inference worker start in a moment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from jobspecs.manifest import Manifest, describe_files, write_manifest

HIDDEN, LAYERS, HEADS, POSITIONS = 16, 1, 2, 64
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "news", "from", "the", "sea", "train", "late")


def build_classifier(folder: Path, labels: Sequence[str], seed: int = 0) -> Manifest:
    """Writes a BertForSequenceClassification with random weights; returns its manifest, which it writes as well."""
    folder.mkdir(parents=True)
    config = {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "vocab_size": len(WORDS),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * HIDDEN,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "dtype": "float32",
        "problem_type": "single_label_classification",
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(_weights(len(labels), seed), folder / "model.safetensors", metadata={"format": "pt"})
    _tokenizer().save(str(folder / "tokenizer.json"))
    tokenizer_config = {
        "tokenizer_class": "BertTokenizer",
        "model_max_length": POSITIONS,
        "do_lower_case": True,
        **{f"{name.strip('[]').lower()}_token": name for name in WORDS[:5]},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config), encoding="utf-8")
    manifest = Manifest(artifact="model", task="text-classification", files=describe_files(folder))
    write_manifest(folder, manifest)
    return manifest


def _weights(labels: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)

    def matrix(*shape: int) -> np.ndarray:
        return random.normal(0, 0.3, shape).astype(np.float32)

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}.weight": np.ones(HIDDEN, np.float32), f"{name}.bias": np.zeros(HIDDEN, np.float32)}

    def linear(name: str, rows: int, columns: int) -> dict[str, np.ndarray]:
        return {f"{name}.weight": matrix(rows, columns), f"{name}.bias": np.zeros(rows, np.float32)}

    weights = {
        "bert.embeddings.word_embeddings.weight": matrix(len(WORDS), HIDDEN),
        "bert.embeddings.position_embeddings.weight": matrix(POSITIONS, HIDDEN),
        "bert.embeddings.token_type_embeddings.weight": matrix(2, HIDDEN),
        **norm("bert.embeddings.LayerNorm"),
        **linear("bert.pooler.dense", HIDDEN, HIDDEN),
        **linear("classifier", labels, HIDDEN),
    }
    for number in range(LAYERS):
        layer = f"bert.encoder.layer.{number}"
        for name in ("query", "key", "value"):
            weights |= linear(f"{layer}.attention.self.{name}", HIDDEN, HIDDEN)
        weights |= linear(f"{layer}.attention.output.dense", HIDDEN, HIDDEN)
        weights |= norm(f"{layer}.attention.output.LayerNorm")
        weights |= linear(f"{layer}.intermediate.dense", 2 * HIDDEN, HIDDEN)
        weights |= linear(f"{layer}.output.dense", HIDDEN, 2 * HIDDEN)
        weights |= norm(f"{layer}.output.LayerNorm")
    return weights


def _tokenizer() -> Tokenizer:
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=WORDS[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer
