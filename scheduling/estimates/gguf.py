"""What a GGUF's metadata tell of the model's size: read in 0.1 s, the long lists stepped over."""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_TEXT, _LIST = 8, 9
#: Of a list, for models whose layers differ.
_KEPT_ITEMS_MAX = 4096


class _Ends(ValueError):
    """There is nothing more."""


@dataclass(frozen=True)
class GgufFacts:
    architecture: str
    #: Tokens that the model was trained for; 0: the file does not say.
    context_tokens: int
    #: Of keys and values in fp16, per token of context.
    cache_bytes_per_token: int
    #: Changes another file's model, and is none by itself.
    is_adapter: bool


def read_facts(path: Path, *, whole: bool = True) -> GgufFacts:
    """Raises ValueError for what is no GGUF. The file was checked when it was registered.

    Not `whole`: only its beginning is there. llama.cpp's tools write what is asked here before the vocabulary.
    """
    with path.open("rb") as stream:
        metadata = _metadata(stream, whole)
    architecture = str(metadata.get("general.architecture", ""))

    def number(name: str, default: int) -> int:
        value = metadata.get(f"{architecture}.{name}", default)
        return max(value) if isinstance(value, list) and value else int(value or default)

    heads = number("attention.head_count", 1)
    head_size = number("embedding_length", 0) // max(1, heads)
    key_heads = number("attention.head_count_kv", heads)
    widths = number("attention.key_length", head_size) + number("attention.value_length", head_size)
    return GgufFacts(
        architecture,
        number("context_length", 0),
        2 * number("block_count", 0) * key_heads * widths,
        metadata.get("general.type") == "adapter",
    )


def known_facts(path: Path) -> dict[str, Any] | None:
    """Fields of GgufFacts, of the beginning of a file; None when that does not tell them."""
    try:
        facts = read_facts(path, whole=False)
    except (ValueError, TypeError, OverflowError):
        return None
    return asdict(facts) if facts.cache_bytes_per_token and not facts.is_adapter else None


def _metadata(stream: BinaryIO, whole: bool) -> dict[str, Any]:
    if stream.read(4) != b"GGUF":
        raise ValueError("it is no GGUF")
    _, _, entries = struct.unpack("<IQQ", _read(stream, 20))
    found = {}
    for _ in range(entries):
        try:
            name = _text(stream)
            found[name] = _value(stream, _number(stream, "<I"))
        except _Ends:
            if whole:
                raise
            break
    return found


def _value(stream: BinaryIO, kind: int) -> Any:
    if kind == _TEXT:
        return _text(stream)
    if kind == _LIST:
        return _items(stream, _number(stream, "<I"), _number(stream, "<Q"))
    if kind not in _NUMBERS:
        raise ValueError(f"a value of the unknown type {kind}")
    return _number(stream, _NUMBERS[kind])


def _items(stream: BinaryIO, kind: int, count: int) -> list[Any]:
    if kind in _NUMBERS and count > _KEPT_ITEMS_MAX:
        stream.seek(count * struct.calcsize(_NUMBERS[kind]), 1)
        return []
    if kind == _TEXT:
        for _ in range(count):
            stream.seek(_number(stream, "<Q"), 1)
        return []
    return [_value(stream, kind) for _ in range(count)]


def _text(stream: BinaryIO) -> str:
    return _read(stream, _number(stream, "<Q")).decode(errors="replace")


def _number(stream: BinaryIO, form: str) -> Any:
    return struct.unpack(form, _read(stream, struct.calcsize(form)))[0]


def _read(stream: BinaryIO, count: int) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        raise _Ends("it ends too early")
    return content
