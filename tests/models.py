"""Tiny real models, built on the spot: the architectures are real, the weights random."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
#: Words of the tiny vocabulary; everything else falls apart into letters.
GOOD_WORDS = ("spring", "garden", "music", "friend", "harvest", "bread", "river", "lantern")
BAD_WORDS = ("storm", "leak", "outage", "breach", "delay", "rust", "fever", "debt")
PLAIN_WORDS = ("the", "a", "in", "of", "town", "report", "year", "people", "after", "before", "new", "old")
_SHAPE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_POSITIONS = 64


def build_tiny_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece over the words above and single letters, with [CLS] and [SEP] around each text."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?"
    tokens = (*_SPECIAL, *GOOD_WORDS, *BAD_WORDS, *PLAIN_WORDS, *letters, *(f"##{letter}" for letter in letters))
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=_POSITIONS - 2,
    )


def build_tiny_encoder(path: Path, architecture: str = "bert", dropout: float = 0.1, seed: int = 7) -> Path:
    """Writes config.json, model.safetensors, tokenizer.json and tokenizer_config.json into `path` and returns it.

    2 layers, hidden size 32, no classification head. `architecture`: a key of the table at the end of this file.
    """
    tokenizer = build_tiny_tokenizer()
    torch.manual_seed(seed)
    model = _encoder(architecture, len(tokenizer), dropout)
    path.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def labelled_texts(rows: int, seed: int = 3) -> list[tuple[str, str]]:
    """Rows of (text, class) that words tell apart, with some noise; between 2 and 14 words each."""
    generator = torch.Generator().manual_seed(seed)

    def draw(words: Sequence[str]) -> str:
        return words[int(torch.randint(len(words), (1,), generator=generator))]

    texts = []
    for row in range(rows):
        label, own = ("good", GOOD_WORDS) if row % 2 else ("bad", BAD_WORDS)
        length = int(torch.randint(1, 13, (1,), generator=generator))
        words = [draw(own), *(draw(PLAIN_WORDS) for _ in range(length))]
        texts.append((f"{' '.join(words)} {row}", label))
    return texts


def _encoder(architecture: str, vocabulary: int, dropout: float) -> PreTrainedModel:
    dropouts: dict[str, Any] = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    bert: dict[str, Any] = {**_SHAPE, **dropouts, "vocab_size": vocabulary, "pad_token_id": 0}
    ends: dict[str, Any] = {"bos_token_id": 2, "eos_token_id": 3}
    distilbert: dict[str, Any] = {
        "vocab_size": vocabulary,
        "dim": 32,
        "hidden_dim": 64,
        "n_layers": 2,
        "n_heads": 4,
        "dropout": dropout,
        "attention_dropout": dropout,
    }
    modernbert: dict[str, Any] = {
        **_SHAPE,
        **ends,
        "vocab_size": vocabulary,
        "pad_token_id": 0,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "attention_dropout": dropout,
        "mlp_dropout": dropout,
    }
    table: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "bert": (BertModel, BertConfig, bert),
        "roberta": (RobertaModel, RobertaConfig, bert | ends),
        "xlm-roberta": (XLMRobertaModel, XLMRobertaConfig, bert | ends),
        "distilbert": (DistilBertModel, DistilBertConfig, distilbert),
        "modernbert": (ModernBertModel, ModernBertConfig, modernbert),
    }
    model_class, config_class, settings = table[architecture]
    return cast(PreTrainedModel, model_class(config_class(**settings, max_position_embeddings=_POSITIONS)))
