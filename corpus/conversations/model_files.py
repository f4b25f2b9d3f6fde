"""What a model folder says about its chats: template, special tokens, tokenizer."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from corpus.conversations.chat_template import ChatTemplate, Clock, RenderingError

TOKENIZER_NAME = "tokenizer.json"
TEMPLATE_NAME = "chat_template.jinja"
#: Every file that rendering reads.
CHAT_FILES = (TOKENIZER_NAME, "tokenizer_config.json", "special_tokens_map.json", TEMPLATE_NAME, "chat_template.json")
#: Largest template and configuration, in bytes. The longest in use has some 20 kB.
_TEXT_BYTES_MAX = 4 * 1024 * 1024
#: Largest tokenizer.json, in bytes; Gemma's, with 262,144 tokens, has 33 MB.
TOKENIZER_BYTES_MAX = 128 * 1024 * 1024

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_PLAIN = (
    "{% for message in messages %}"
    "{{ '### ' + message['role']|capitalize + ':\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}"
)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer, which neither cuts nor pads. Raises RenderingError when there is none that can be read."""
    path = folder / TOKENIZER_NAME
    if not path.is_file():
        remedy = "Import the model with its tokenizer.json; transformers' save_pretrained writes it."
        raise RenderingError(f"the model has no {TOKENIZER_NAME}.", remedy)
    if path.stat().st_size > TOKENIZER_BYTES_MAX:
        raise RenderingError(f"{TOKENIZER_NAME} is larger than {TOKENIZER_BYTES_MAX:,} bytes.", "Take another model.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    # The library raises plain Exception for every fault of the file.
    except Exception as error:
        raise RenderingError(f"{TOKENIZER_NAME} can't be read: {error}.", "Save the tokenizer again.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def load_template(folder: Path, tokenizer: Tokenizer, clock: Clock = datetime.now) -> ChatTemplate:
    """The model's own template, else one made of its special tokens. Raises RenderingError."""
    tokens = special_tokens(folder)
    source = _own_template(folder)
    if source is not None:
        return ChatTemplate(source, "model", tokens, clock)
    return ChatTemplate(_default_template(tokenizer, tokens), "default", tokens, clock)


def special_tokens(folder: Path) -> dict[str, str]:
    """The special tokens by their names, such as `eos_token`, as templates see them."""
    named = {**_json(folder / "special_tokens_map.json"), **_json(folder / "tokenizer_config.json")}
    extra = named.get("extra_special_tokens")
    candidates = {**(extra if isinstance(extra, dict) else {}), **{name: named.get(name) for name in _NAMED}}
    found = {name: value.get("content") if isinstance(value, dict) else value for name, value in candidates.items()}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _default_template(tokenizer: Tokenizer, tokens: dict[str, str]) -> str:
    begin = _begin_token(tokenizer)
    first = f"{{{{ {json.dumps(begin, ensure_ascii=False)} }}}}" if begin else ""
    if all(tokenizer.token_to_id(token) is not None for token in ("<|im_start|>", "<|im_end|>")):
        return first + _CHATML
    if "eos_token" not in tokens:
        remedy = "Add a chat_template.jinja, or eos_token to its tokenizer_config.json."
        raise RenderingError("the model has neither a chat template nor an end-of-sequence token.", remedy)
    return first + _PLAIN


def _begin_token(tokenizer: Tokenizer) -> str | None:
    """What the tokenizer puts in front of a text by itself, if anything; within a template it doesn't."""
    encoded = tokenizer.encode("a")
    return encoded.tokens[0] if encoded.tokens and encoded.special_tokens_mask[0] else None


def _own_template(folder: Path) -> str | None:
    path = folder / TEMPLATE_NAME
    if path.is_file():
        return _text(path)
    for name in ("tokenizer_config.json", "chat_template.json"):
        source = _chosen(_json(folder / name).get("chat_template"))
        if source is not None:
            return source
    return None


def _chosen(value: Any) -> str | None:
    """A template, or the default one of several: `[{"name": "default", "template": "..."}, ...]`."""
    if isinstance(value, list):
        value = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
    if isinstance(value, dict):
        value = value.get("default")
    return value if isinstance(value, str) else None


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise RenderingError(f"{path.name} is not JSON: {error}.", "Save the tokenizer again.") from error
    return value if isinstance(value, dict) else {}


def _text(path: Path) -> str:
    if path.stat().st_size > _TEXT_BYTES_MAX:
        raise RenderingError(f"{path.name} is larger than {_TEXT_BYTES_MAX:,} bytes.", "Take another model.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RenderingError(f"{path.name} is not UTF-8.", "Save the tokenizer again.") from error
