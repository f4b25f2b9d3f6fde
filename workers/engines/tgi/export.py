"""A model's folder as transformers 4.51 reads it, which is what text-generation-inference 3.3 has.

What transformers 5 writes is loaded there without an error and wrongly: `rope_parameters` and `dtype` are passed over,
so a model with another base of its rotary embeddings than 10,000 answers nonsense; lists of extra special tokens and
`TokenizersBackend` fail; and a chat template in a file of its own is not found.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jobspecs.lifecycle import Reason
from workers.run.context import RunFailed

_CONFIG, _TOKENIZER_CONFIG, _TEMPLATE = "config.json", "tokenizer_config.json", "chat_template.jinja"
_ADAPTER_CONFIG = "adapter_config.json"
#: The fields of peft 0.14's LoraConfig; others are of later versions.
_LORA_FIELDS = frozenset(
    {
        *("task_type", "peft_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "r"),
        *("target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "fan_in_fan_out", "bias", "use_rslora"),
        *("modules_to_save", "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern"),
        *("alpha_pattern", "megatron_config", "megatron_core", "loftq_config", "eva_config", "use_dora"),
        *("layer_replication", "lora_bias"),
    }
)
#: Of an adapter, what TGI passes over without a word, and the values that change nothing there.
_PASSED_OVER: dict[str, tuple[Any, ...]] = {
    "use_dora": (False,),
    "modules_to_save": ([],),
    "bias": ("none",),
    "lora_bias": (False,),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
    "layer_replication": ([],),
    "target_parameters": ([],),
    "trainable_token_indices": ([], {}),
}
#: Tokenizers of transformers 5 that 4.51 does not have, and what reads the same tokenizer.json there.
_GENERAL_TOKENIZER = "PreTrainedTokenizerFast"


def export_model(model_dir: Path, folder: Path) -> Path:
    """Fills `folder`: links to the files that stay as they are, the others written anew. Returns it.

    Raises RunFailed(invalid_model) for configurations that are no JSON objects.
    """
    _link_all(model_dir, folder, but={_CONFIG, _TOKENIZER_CONFIG, _TEMPLATE})
    _write(folder / _CONFIG, config_of_4(_read(model_dir / _CONFIG)))
    template_file = model_dir / _TEMPLATE
    template = template_file.read_text(encoding="utf-8") if template_file.is_file() else None
    tokenizer = _read(model_dir / _TOKENIZER_CONFIG) if (model_dir / _TOKENIZER_CONFIG).is_file() else {}
    _write(folder / _TOKENIZER_CONFIG, tokenizer_config_of_4(tokenizer, template))
    return folder


def export_adapter(adapter_dir: Path, folder: Path, base: Path) -> Path:
    """As `export_model`, for an adapter, which names `base`.

    Raises RunFailed(unsatisfiable) for what TGI would pass over: its answers would be those of another adapter.
    """
    config = _read(adapter_dir / _ADAPTER_CONFIG)
    for field, idle in _PASSED_OVER.items():
        if (said := config.get(field)) is not None and said not in idle:
            raise RunFailed(
                Reason.unsatisfiable,
                f"text-generation-inference passes over {field} of adapter_config.json ({json.dumps(said)}). Deploy "
                "this adapter by itself, with the embedded engine.",
            )
    _link_all(adapter_dir, folder, but={_ADAPTER_CONFIG})
    known = {name: value for name, value in config.items() if name in _LORA_FIELDS}
    _write(folder / _ADAPTER_CONFIG, {**known, "base_model_name_or_path": str(base), "revision": None})
    return folder


def config_of_4(config: dict[str, Any]) -> dict[str, Any]:
    """config.json with `torch_dtype`, `rope_theta` and `rope_scaling` in their old places; also of a text part."""
    written = dict(config)
    if "dtype" in written:
        written["torch_dtype"] = written.pop("dtype")
    rope = written.pop("rope_parameters", None)
    if isinstance(rope, dict):
        scaling = {name: value for name, value in rope.items() if name != "rope_theta"}
        if "rope_theta" in rope:
            written["rope_theta"] = rope["rope_theta"]
        written["rope_scaling"] = None if scaling.get("rope_type", "default") == "default" else scaling
    text = written.get("text_config")
    return {**written, "text_config": config_of_4(text)} if isinstance(text, dict) else written


def tokenizer_config_of_4(config: dict[str, Any], template: str | None) -> dict[str, Any]:
    """tokenizer_config.json with the chat template in it, and what 4.51 can't read put as it was then."""
    written = dict(config)
    if template is not None:
        written["chat_template"] = template
    extra = written.get("extra_special_tokens")
    if isinstance(extra, list):
        del written["extra_special_tokens"]
        written.setdefault("additional_special_tokens", extra)
    name = str(written.get("tokenizer_class", _GENERAL_TOKENIZER))
    if name == "TokenizersBackend" or not name.endswith("Fast"):
        # tokenizer.json is all there is; classes without Fast want files of SentencePiece or merges beside it.
        written["tokenizer_class"] = _GENERAL_TOKENIZER
    written.pop("backend", None)
    return written


def _link_all(source: Path, folder: Path, but: set[str]) -> None:
    folder.mkdir(parents=True)
    for path in source.rglob("*"):
        relative = path.relative_to(source)
        if path.is_file() and relative.as_posix() not in but:
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            (folder / relative).symlink_to(path.resolve())


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunFailed(Reason.invalid_model, f"{path.name} can't be read: {error}") from error
    if not isinstance(document, dict):
        raise RunFailed(Reason.invalid_model, f"{path.name} is no object.")
    return document


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
