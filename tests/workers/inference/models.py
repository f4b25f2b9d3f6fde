"""Tiny real models on disk, written without torch: the tests of the inference worker start in a moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from jobspecs.manifest import Manifest, describe_files, write_manifest

HIDDEN, LAYERS, HEADS, POSITIONS = 16, 1, 2, 64
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "news", "from", "the", "sea", "train", "late")


def build_classifier(folder: Path, labels: Sequence[str], seed: int = 0) -> Manifest:
    """Writes a BertForSequenceClassification with random weights; returns its manifest, which it writes as well."""
    _write_bert(
        folder,
        _weights(len(labels), seed),
        architectures=["BertForSequenceClassification"],
        problem_type="single_label_classification",
        id2label={str(number): label for number, label in enumerate(labels)},
        label2id={label: number for number, label in enumerate(labels)},
    )
    return _described(folder, "text-classification")


def build_reranker(folder: Path, seed: int = 0) -> Manifest:
    """As `build_classifier`: one number per pair of texts."""
    labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    _write_bert(folder, _weights(1, seed), architectures=["BertForSequenceClassification"], **labels)
    return _described(folder, "text-ranking")


def build_embedder(folder: Path, seed: int = 0) -> Manifest:
    """As `build_classifier`: a folder of sentence-transformers with mean pooling and a prompt."""
    weights = {
        name.removeprefix("bert."): weight for name, weight in _weights(1, seed).items() if name.startswith("bert.")
    }
    _write_bert(folder, weights, architectures=["BertModel"])
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    pooling = {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True}
    settings = {"prompts": {"query": "news from "}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    (folder / "1_Pooling").mkdir()
    _write_json(folder / "modules.json", modules)
    _write_json(folder / "1_Pooling" / "config.json", pooling)
    _write_json(folder / "config_sentence_transformers.json", settings)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": POSITIONS, "do_lower_case": False})
    return _described(folder, "sentence-similarity")


def _build_judge(folder: Path) -> Manifest:
    return build_reranker(folder)


def _build_finder(folder: Path) -> Manifest:
    return build_embedder(folder)


def _build_sorter(folder: Path) -> Manifest:
    return build_classifier(folder, ("good", "bad"))


#: Task -> what builds a model for it.
BUILDERS: Mapping[str, Callable[[Path], Manifest]] = {
    "text-classification": _build_sorter,
    "sentence-similarity": _build_finder,
    "text-ranking": _build_judge,
}


def _write_bert(folder: Path, weights: dict[str, np.ndarray], **config: Any) -> None:
    folder.mkdir(parents=True)
    shape = {
        "model_type": "bert",
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
    }
    _write_json(folder / "config.json", {**shape, **config})
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _tokenizer().save(str(folder / "tokenizer.json"))
    tokenizer_config = {
        "tokenizer_class": "BertTokenizer",
        "model_max_length": POSITIONS,
        "do_lower_case": True,
        **{f"{name.strip('[]').lower()}_token": name for name in WORDS[:5]},
    }
    _write_json(folder / "tokenizer_config.json", tokenizer_config)


def _described(folder: Path, task: str) -> Manifest:
    manifest = Manifest(artifact="model", task=task, files=describe_files(folder))
    write_manifest(folder, manifest)
    return manifest


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


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
