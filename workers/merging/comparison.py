"""Whether models mean the same by their numbers: shapes can fit where rows of embeddings are other tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workers.local_models.base_model import invalid_model, read_json

#: Fields of config.json of which another value makes another function of the same weights.
_DECISIVE = ("model_type", "num_attention_heads", "num_key_value_heads", "hidden_act", "tie_word_embeddings")
#: Fields that may differ: what the result has is `leading`'s.
_TOLD = ("dtype", "torch_dtype", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")
_SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")
_TEMPLATE = "chat_template"


def differences(folders: Mapping[str, Path], configs: Mapping[str, Mapping[str, Any]], leading: str) -> list[str]:
    """What else is different in the models, by reference: sentences for people.

    `leading`: the one whose configuration and tokenizer the result has. Raises RunFailed(invalid_model) where models
    would mean different things by the same weights: another vocabulary, rotation of positions or head.
    """
    found: list[str] = []
    tokenizer, tokens = _tokenizer(folders[leading]), _tokens(folders[leading])
    for reference, folder in folders.items():
        if reference == leading:
            continue
        for what, own, other in _decisive(configs[leading], configs[reference]):
            raise invalid_model(
                f"{reference} has {what} {other!r}, {leading} {own!r}: the same weights mean something else."
            )
        _check_vocabulary(tokens, _tokens(folder), leading, reference)
        pairs = [(name, configs[leading].get(name), configs[reference].get(name)) for name in _TOLD]
        others = _tokenizer(folder)
        pairs += [(name, tokenizer.get(name), others.get(name)) for name in (*_SPECIAL, _TEMPLATE)]
        for name, own, other in pairs:
            if own != other:
                told = "" if name == _TEMPLATE else f" ({other!r} and {own!r})"
                found.append(f"{reference} has another {name} than {leading}{told}; the merged model has {leading}'s.")
    return found


def _decisive(own: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in _DECISIVE:
        if name in own and name in other and own[name] != other[name]:
            yield name, own[name], other[name]
    rotations = _rotation(own), _rotation(other)
    if rotations[0] != rotations[1]:
        yield "the rotation of positions (rope)", *rotations


def _rotation(config: Mapping[str, Any]) -> dict[str, Any]:
    """As transformers 5 writes it, or older ones did."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = rope.get("rope_theta", config.get("rope_theta"))
    kind = rope.get("rope_type", rope.get("type", "default"))
    return {**rope, "rope_type": kind, "rope_theta": None if theta is None else float(theta)}


def _check_vocabulary(own: dict[str, int], other: dict[str, int], leading: str, reference: str) -> None:
    """Tokens that only one of them has, in rows that the other leaves unused, fit."""
    if not own or not other:
        return
    names = {number: token for token, number in own.items()}
    for token, number in other.items():
        if own.get(token, number) != number or names.get(number, token) != token:
            raise invalid_model(
                f"{reference} has another vocabulary than {leading}: its token {number} is {token!r}, which is "
                f"{own.get(token, 'none')} there, where {number} is {names.get(number)!r}."
            )


def _tokens(folder: Path) -> dict[str, int]:
    """Token -> number of tokenizer.json; empty where there is none."""
    document = read_json(folder / "tokenizer.json", required=False)
    vocabulary = document.get("model", {}).get("vocab", {})
    if isinstance(vocabulary, list):
        vocabulary = {entry[0]: number for number, entry in enumerate(vocabulary)}
    return {**vocabulary, **{token["content"]: token["id"] for token in document.get("added_tokens", ())}}


def _tokenizer(folder: Path) -> dict[str, Any]:
    """Special tokens by name, and the chat template."""
    settings = read_json(folder / "tokenizer_config.json", required=False)
    special = {name: settings.get(name) for name in _SPECIAL}
    for name, token in special.items():
        special[name] = token.get("content") if isinstance(token, dict) else token
    file = folder / "chat_template.jinja"
    template = file.read_text(encoding="utf-8") if file.is_file() else settings.get(_TEMPLATE)
    return {**special, _TEMPLATE: template}
