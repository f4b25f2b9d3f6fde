"""Tiny real language models, built on the spot: the architectures are real, the weights random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

_SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}
_MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"tie_word_embeddings": True}),
    # A window shorter than the sequences of the tests.
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 8}),
    "gemma2": (Gemma2Config, Gemma2ForCausalLM, {"query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0}),
}


def build_tiny_chat_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, and a chat template in the manner of ChatML."""
    letters = sorted(ByteLevel.alphabet())
    tokens = {token: index for index, token in enumerate((*_SPECIAL, *letters))}
    tokenizer = Tokenizer(BPE(tokens, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_SPECIAL[0],
        eos_token=_SPECIAL[2],
        additional_special_tokens=[_SPECIAL[1]],
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def build_tiny_llm(path: Path, architecture: str = "llama", dropout: float = 0.0, seed: int = 7) -> Path:
    """Writes a causal language model of 2 layers, its tokenizer and chat template into `path` and returns it."""
    tokenizer = build_tiny_chat_tokenizer()
    torch.manual_seed(seed)
    config_class, model_class, settings = _MODELS[architecture]
    ends = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2}
    config = config_class(**{**_SHAPE, **ends, "vocab_size": len(tokenizer), "attention_dropout": dropout, **settings})
    path.mkdir(parents=True, exist_ok=True)
    model_class(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
