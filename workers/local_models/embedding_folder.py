"""The folder of an embedder as sentence-transformers lays it out: which modules follow each other, and their settings.

Read as data: a module is known by its name or the folder is refused, and nothing is imported by a name from a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from jobspecs.manifest import check_relative_path
from workers.local_models.base_model import first_line, invalid_model, read_json
from workers.local_models.embedding_network import Dense, EmbeddingNetwork, Normalize
from workers.local_models.pooling import POOLING

_MODULES = "modules.json"
_SETTINGS = "config_sentence_transformers.json"
_TRANSFORMER_SETTINGS = "sentence_bert_config.json"
#: Flags of one pooling each, as every version of the library and other servers read them.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS: Mapping[str, type[nn.Module]] = MappingProxyType(
    {"Tanh": nn.Tanh, "Identity": nn.Identity, "ReLU": nn.ReLU, "GELU": nn.GELU, "SiLU": nn.SiLU, "Sigmoid": nn.Sigmoid}
)


@dataclass(frozen=True)
class Layout:
    """What an embedder's folder says about itself. `tail`: the modules after the pooling."""

    static: bool = False
    #: The folder with the encoder or the table; the embedder's own or one below it.
    encoder: Path = Path()
    pooling: tuple[str, ...] = ()
    tail: tuple[nn.Module, ...] = ()
    max_tokens: int | None = None
    lowercase: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    truncate_dim: int | None = None


def read_layout(root: Path) -> Layout:
    """A plain encoder's folder has no pooling. Raises RunFailed(invalid_model) for modules that are not known."""
    if not (root / _MODULES).is_file():
        return Layout(encoder=root)
    settings = read_json(root / _SETTINGS, required=False)
    encoder, static = root, False
    pooling: tuple[str, ...] = ()
    tail: list[nn.Module] = []
    for position, (name, folder) in enumerate(_modules(root)):
        if position == 0 and name in ("Transformer", "StaticEmbedding"):
            encoder, static = folder, name == "StaticEmbedding"
        elif position == 1 and name == "Pooling" and not static:
            pooling = _pooling(folder)
        elif position > 0 and name in ("Dense", "Normalize"):
            tail.append(_dense(folder) if name == "Dense" else Normalize())
        else:
            raise invalid_model(f"{_MODULES} has {name} in place {position}, which is not known there.")
    transformer = read_json(encoder / _TRANSFORMER_SETTINGS, required=False)
    prompts = settings.get("prompts") or {}
    return Layout(
        static=static,
        encoder=encoder,
        pooling=("mean",) if static else pooling,
        tail=tuple(tail),
        max_tokens=transformer.get("max_seq_length"),
        lowercase=transformer.get("do_lower_case") is True,
        prompts={str(name): str(prompt) for name, prompt in prompts.items() if prompt},
        default_prompt_name=settings.get("default_prompt_name"),
        truncate_dim=settings.get("truncate_dim"),
    )


def write_layout(root: Path, layout: Layout, network: EmbeddingNetwork, library: str) -> None:
    """Everything but encoder and tokenizer, which lie in `root` itself. `library`: sentence-transformers' version."""
    first = "StaticEmbedding" if network.static else "Transformer"
    modules = [("", first)] if network.static else [("", first), ("1_Pooling", "Pooling")]
    modules += [
        (f"{len(modules) + place}_{type(m).__name__}", type(m).__name__) for place, m in enumerate(network.tail)
    ]
    for folder, _ in modules:
        (root / folder).mkdir(exist_ok=True)
    for (folder, _), module in zip(modules[len(modules) - len(network.tail) :], network.tail, strict=True):
        if isinstance(module, Dense):
            _write_dense(root / folder, module)
        else:
            _write(root / folder / "config.json", {"module_input_name": "sentence_embedding"})
    if not network.static:
        _write(root / "1_Pooling" / "config.json", _pooling_config(network))
        _write(root / _TRANSFORMER_SETTINGS, {"max_seq_length": layout.max_tokens, "do_lower_case": layout.lowercase})
    _write(
        root / _MODULES,
        [
            {"idx": index, "name": str(index), "path": folder, "type": f"sentence_transformers.models.{name}"}
            for index, (folder, name) in enumerate(modules)
        ],
    )
    settings: dict[str, Any] = {
        "__version__": {"sentence_transformers": library},
        "model_type": "SentenceTransformer",
        "prompts": layout.prompts,
        "default_prompt_name": layout.default_prompt_name,
        "similarity_fn_name": "cosine",
    }
    if layout.truncate_dim is not None:
        settings["truncate_dim"] = layout.truncate_dim
    _write(root / _SETTINGS, settings)


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of `model.safetensors`. Raises RunFailed(invalid_model)."""
    path = folder / "model.safetensors"
    if not path.is_file():
        raise invalid_model(f"there is no {folder.name}/model.safetensors; pickled weights are never loaded.")
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise invalid_model(f"{folder.name}/model.safetensors can't be used: {first_line(error)}") from error


def _modules(root: Path) -> list[tuple[str, Path]]:
    """(name, folder) in their order. The type's name is compared, never imported."""
    try:
        entries = json.loads((root / _MODULES).read_bytes())
        found = [(str(entry["type"]), str(entry["path"])) for entry in sorted(entries, key=lambda entry: entry["idx"])]
        folders = [root / check_relative_path(path) if path else root for _, path in found]
    except (ValueError, TypeError, KeyError) as error:
        raise invalid_model(f"{_MODULES} can't be used: {first_line(error)}") from error
    for kind, _ in found:
        if not kind.startswith("sentence_transformers."):
            raise invalid_model(f"{_MODULES} names {kind}: this model needs code of its own, which is never run here.")
    return [(kind.rpartition(".")[2], folder) for (kind, _), folder in zip(found, folders, strict=True)]


def _pooling(folder: Path) -> tuple[str, ...]:
    config = read_json(folder / "config.json", required=True)
    if config.get("include_prompt") is False:
        raise invalid_model("its pooling leaves prompts out, which is not supported.")
    named = config.get("pooling_mode")
    if named is None:
        named = [name for flag, name in _POOLING_FLAGS.items() if config.get(flag)] or "mean"
    names = (named,) if isinstance(named, str) else tuple(named)
    unknown = [name for name in names if name not in POOLING]
    if unknown:
        raise invalid_model(f"the pooling {unknown[0]!r} is not known.")
    return names


def _pooling_config(network: EmbeddingNetwork) -> dict[str, Any]:
    """Flags for one pooling, which every reader knows; a list for several, because flags have no order."""
    hidden = int(network.encoder.config.hidden_size)
    if len(network.pooling) > 1:
        return {"embedding_dimension": hidden, "pooling_mode": list(network.pooling), "include_prompt": True}
    flags = {flag: name in network.pooling for flag, name in _POOLING_FLAGS.items()}
    return {"word_embedding_dimension": hidden, **flags}


def _dense(folder: Path) -> Dense:
    config = read_json(folder / "config.json", required=True)
    activation = _ACTIVATIONS.get(str(config.get("activation_function", "Tanh")).rpartition(".")[2])
    if activation is None or config.get("use_residual") or config.get("module_input_name", "").startswith("token"):
        raise invalid_model(f"{folder.name}/config.json describes a dense layer that is not supported.")
    tensors = read_tensors(folder)
    weight, bias = tensors.get("linear.weight"), tensors.get("linear.bias")
    if weight is None or (bias is None) == bool(config.get("bias", True)):
        raise invalid_model(f"{folder.name} lacks the weights of its dense layer.")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return Dense(layer, activation())


def _write_dense(folder: Path, module: Dense) -> None:
    kind = type(module.activation)
    config = {
        "in_features": module.linear.in_features,
        "out_features": module.linear.out_features,
        "bias": module.linear.bias is not None,
        "activation_function": f"{kind.__module__}.{kind.__name__}",
    }
    _write(folder / "config.json", config)
    tensors = {name: tensor.detach().contiguous() for name, tensor in module.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
