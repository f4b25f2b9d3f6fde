"""What stands beside a merged model's weights: its configuration, tokenizer and other files, and whether it loads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from jobspecs.manifest import CARD, MANIFEST_NAME
from workers.local_models.base_model import be_quiet, invalid_model, read_json
from workers.merging.plan import LAYER_COUNTS

#: Files that say how texts become tokens.
_TOKENIZER = (
    "tokenizer",
    "vocab",
    "merges",
    "special_tokens",
    "added_tokens",
    "chat_template",
    "spiece",
    "sentencepiece",
)
#: What is of the one parent alone: its weights, its card, what judged it.
_OWN = {MANIFEST_NAME, CARD}
_WEIGHTS = (".safetensors", ".safetensors.index.json", ".gguf")


def check_parent(folder: Path, reference: str) -> dict[str, Any]:
    """The configuration of a model that can be merged. Raises RunFailed(invalid_model) for another."""
    if (folder / "adapter_config.json").is_file():
        raise invalid_model(f"{reference} is an adapter: its weights are no model's.")
    if not (folder / "config.json").is_file():
        raise invalid_model(f"{reference} has no config.json.")
    for name in ("config.json", "tokenizer_config.json"):
        if "auto_map" in read_json(folder / name, required=name == "config.json"):
            raise invalid_model(f"{reference}: {name} has auto_map: it needs code of its own, which is never run here.")
    if further := sorted(path for path in folder.rglob("*.safetensors") if path.parent != folder):
        where = further[0].relative_to(folder)
        raise invalid_model(f"{reference} has further weights in {where}, which would not be merged.")
    config = read_json(folder / "config.json", required=True)
    if config.get("model_type") not in transformers.CONFIG_MAPPING:
        raise invalid_model(f"{reference}: no architecture of transformers is {config.get('model_type')!r}.")
    if "quantization_config" in config:
        raise invalid_model(f"{reference} is quantized; merge the models that it and the others were made from.")
    return config


def write_beside_weights(
    output: Path,
    leading: Path,
    tokenizer: Path,
    config: dict[str, Any],
    *,
    dtype: str | None,
    layers: Sequence[int] | None,
) -> None:
    """`leading`: the model whose files are taken, `config` its configuration; `tokenizer`: the one whose tokenizer is.

    `layers`: of each layer of the result, the number of the layer whose settings it has; None: all are as they were.
    """
    for folder, wanted in ((leading, False), (tokenizer, True)):
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and name.startswith(_TOKENIZER) == wanted and not _is_own(name):
                (output / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, output / name)
    text = json.dumps(_config(config, dtype, layers), indent=2, ensure_ascii=False, sort_keys=True)
    (output / "config.json").write_text(text + "\n", encoding="utf-8")


def _is_own(name: str) -> bool:
    return name in _OWN or name == "config.json" or name.startswith("evaluation/") or name.endswith(_WEIGHTS)


def _config(config: dict[str, Any], dtype: str | None, layers: Sequence[int] | None) -> dict[str, Any]:
    made = dict(config)
    if dtype is not None:
        made["torch_dtype" if "torch_dtype" in config else "dtype"] = dtype
    if layers is not None:
        (key,) = (key for key in LAYER_COUNTS if key in config)
        # Lists with an entry for each layer, such as layer_types.
        for name, value in config.items():
            if isinstance(value, list) and len(value) == config[key]:
                if max(layers) >= len(value):
                    raise invalid_model(f"{name} of config.json has no entry for layer {max(layers)}.")
                made[name] = [value[layer] for layer in layers]
        made[key] = len(layers)
    return made


def check_loads(output: Path) -> None:
    """Whether the library finds every tensor of the architecture; none is read. Raises RunFailed(invalid_model)."""
    be_quiet()
    config = transformers.AutoConfig.from_pretrained(output, local_files_only=True, trust_remote_code=False)
    names = [name for name in config.architectures or () if hasattr(transformers, name)]
    family = getattr(transformers, names[0]) if names else transformers.AutoModel
    _, info = family.from_pretrained(
        output,
        config=config,
        device_map="meta",
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    if absent := sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]])):
        raise invalid_model(f"the merged model lacks {len(absent)} tensors of its architecture, such as {absent[0]}.")
