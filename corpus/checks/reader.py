"""How a base model reads: its tokenizer, and how many tokens its positions reach. From its small files alone."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

log = logging.getLogger(__name__)

#: The files that a check reads of a model.
READ_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
    "adapter_config.json",
)
#: English prose has about four characters per token of a usual vocabulary.
_CHARS_PER_TOKEN = 4
_SPECIAL_TOKENS = 2
#: RoBERTa and its kin count positions from the padding token's id on.
_POSITIONS_FROM_PADDING = ("roberta", "xlm-roberta", "camembert")


@dataclass(frozen=True)
class Reader:
    """`max_tokens`: the longest sequence that the model can read; None when its files don't tell."""

    tokenizer: Tokenizer | None = None
    max_tokens: int | None = None
    folder: Path | None = None

    @classmethod
    def load(cls, folder: Path | None) -> Reader:
        """From a folder with READ_FILES, each of which may be absent. A tokenizer that can't be read is none."""
        if folder is None:
            return cls()
        return cls(_tokenizer(folder), _max_tokens(folder), folder)

    def count(self, sequences: Sequence[str | tuple[str, str]]) -> list[int]:
        """Tokens of each text or pair, special tokens included; estimated from characters without a tokenizer."""
        if self.tokenizer is None:
            return [_estimate(sequence) for sequence in sequences]
        return [len(encoded.ids) for encoded in self.tokenizer.encode_batch_fast(list(sequences))]


def _estimate(sequence: str | tuple[str, str]) -> int:
    texts = (sequence,) if isinstance(sequence, str) else sequence
    return sum(-(-len(text) // _CHARS_PER_TOKEN) for text in texts) + _SPECIAL_TOKENS + len(texts) - 1


def _tokenizer(folder: Path) -> Tokenizer | None:
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    # The library raises plain Exception for whatever it can't parse.
    except Exception as error:
        log.warning("tokens are estimated: tokenizer.json can't be read: %s", error)
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _max_tokens(folder: Path) -> int | None:
    config, settings = _json(folder / "config.json"), _json(folder / "tokenizer_config.json")
    limits = []
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and positions > 0:
        if config.get("model_type") in _POSITIONS_FROM_PADDING:
            positions -= int(config.get("pad_token_id") or 0) + 1
        limits.append(positions)
    longest = settings.get("model_max_length")
    # Some tokenizers write 1e30 for "no limit".
    if isinstance(longest, int | float) and 0 < longest < 1 << 20:
        limits.append(int(longest))
    return max(1, min(limits)) if limits else None


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        log.warning("%s is not JSON: %s", path.name, error)
        return {}
    return content if isinstance(content, dict) else {}
