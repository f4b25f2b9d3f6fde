"""Forms with tokenizers of real models' kinds."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import decoders

from tests.language_models import build_tiny_chat_tokenizer
from workers.engines.embedded.generation.forms import Form, Forms

SCHEMA: Any = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"], "additionalProperties": False}


def test_a_form_is_kept_to_with_the_tokenizer_that_a_gguf_comes_to() -> None:
    tokenizer = build_tiny_chat_tokenizer()
    # As transformers writes it for a GGUF: llguidance took it for SentencePiece's and knew no token with a space.
    several = [decoders.ByteFallback(), decoders.Fuse(), decoders.Replace("▁", " "), decoders.ByteLevel()]
    tokenizer.backend_tokenizer.decoder = decoders.Sequence(several)
    model: Any = SimpleNamespace(tokenizer=tokenizer, vocabulary_size=len(tokenizer), end_tokens=(2,))
    forms = Forms(model)
    try:
        following = asyncio.run(forms.prepared(Form.of_schema("response_format", SCHEMA))).begin()
    finally:
        forms.close()
    tokens = []
    for _ in range(20):
        allowed = following.narrowed(torch.zeros(len(tokenizer)))
        tokens.append(int(allowed.argmax()))
        if tokens[-1] == 2:
            break
        following.take(tokens[-1])
    assert tokenizer.decode(tokens, skip_special_tokens=True) == '{"a": 1}'
