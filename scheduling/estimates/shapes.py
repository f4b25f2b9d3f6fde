"""The shape of a transformer, from the config.json that lies beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from jobspecs.strict_json import UnacceptableJson, parse_json_file

#: Names of the same thing in the configurations of different architectures; the first one present counts.
_NAMES = {
    "layers": ("num_hidden_layers", "n_layers", "n_layer"),
    "hidden": ("hidden_size", "dim", "n_embd", "d_model"),
    "intermediate": ("intermediate_size", "hidden_dim", "n_inner"),
    "heads": ("num_attention_heads", "n_heads", "n_head"),
    "vocabulary": ("vocab_size",),
}
#: Architectures whose feed-forward part has a gate: three matrices instead of two.
_GATED = frozenset({"modernbert", "nomic_bert"})
#: No model is larger; beyond these an estimate would not fit into a database's integers. Widths are of vectors.
_LAYERS_MAX = 1024
_WIDTH_MAX = 2**20
_ROWS_MAX = 2**24
_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a transformer. `intermediate`: width of the feed-forward part."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_size: int
    vocabulary: int
    positions: int = 512
    #: Predicts the next token, has an LM head, no biases and a gated feed-forward part.
    causal: bool = False
    gated: bool = False
    #: The LM head is the embedding table.
    tied: bool = True
    attention_dropout: float = 0.0

    @property
    def query_width(self) -> int:
        return self.heads * self.head_size

    @property
    def key_width(self) -> int:
        return self.key_value_heads * self.head_size

    @property
    def layer_parameters(self) -> int:
        """Weights of the matrices of one layer; norms and biases, a few in a thousand, are left out."""
        attention = 2 * self.hidden * (self.query_width + self.key_width)
        return attention + (3 if self.gated else 2) * self.hidden * self.intermediate

    @property
    def embedding_parameters(self) -> int:
        return self.vocabulary * self.hidden + (0 if self.causal else self.positions * self.hidden)

    @property
    def head_parameters(self) -> int:
        """Of an LM head of its own, or of an encoder's pooler."""
        if self.causal:
            return 0 if self.tied else self.vocabulary * self.hidden
        return self.hidden * self.hidden

    @property
    def parameters(self) -> int:
        return self.embedding_parameters + self.layers * self.layer_parameters + self.head_parameters


#: What is taken when nothing is known: encoders and causal models by their number of parameters.
_TYPICAL = (
    ModelShape(6, 384, 1536, 12, 12, 32, 30522),
    ModelShape(12, 768, 3072, 12, 12, 64, 30522),
    ModelShape(24, 1024, 4096, 16, 16, 64, 30522),
    ModelShape(16, 2048, 8192, 32, 8, 64, 128256, causal=True, gated=True),
    ModelShape(32, 4096, 14336, 32, 8, 128, 128256, causal=True, gated=True, tied=False),
)


def shape_of(config: Mapping[str, Any]) -> ModelShape | None:
    """None when the configuration does not tell the sizes that matter, or tells what no model has. Raises nothing.

    `config` is what somebody wrote: any JSON may be in any place.
    """
    found = {name: _first(config, names) for name, names in _NAMES.items()}
    sizes = {name: value for name, value in found.items() if _is_size(value)}
    if not {"layers", "hidden", "heads", "vocabulary"} <= sizes.keys():
        return None
    gated = config.get("model_type") in tuple(_GATED)
    architectures = config.get("architectures")
    causal = isinstance(architectures, list) and any(str(name).endswith("ForCausalLM") for name in architectures)
    heads, hidden = sizes["heads"], sizes["hidden"]
    shape = ModelShape(
        layers=sizes["layers"],
        hidden=hidden,
        intermediate=sizes.get("intermediate", 4 * hidden),
        heads=heads,
        key_value_heads=_positive(config.get("num_key_value_heads"), heads),
        head_size=_positive(config.get("head_dim"), hidden // heads),
        vocabulary=sizes["vocabulary"],
        positions=0 if gated else _positive(config.get("max_position_embeddings"), 512),
        causal=causal,
        gated=causal or gated,
        tied=bool(config.get("tie_word_embeddings", True)),
        attention_dropout=_share(_first(config, _DROPOUTS)),
    )
    return shape if _is_possible(shape) else None


def shape_of_file(path: Path) -> ModelShape | None:
    """As `shape_of`; None also for what is no JSON object."""
    try:
        config = parse_json_file(path.read_bytes())
    except UnacceptableJson:
        return None
    return shape_of(config) if isinstance(config, dict) else None


def typical_shape(weights_bytes: int) -> ModelShape:
    """The usual model whose size is nearest; `weights_bytes` is taken as fp32."""
    parameters = max(1, weights_bytes // 4)
    return min(_TYPICAL, key=lambda shape: max(parameters, shape.parameters) / min(parameters, shape.parameters))


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((config[name] for name in names if config.get(name) is not None), None)


def _positive(value: Any, otherwise: int) -> int:
    return value if _is_size(value) else otherwise


def _is_size(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 < value <= _ROWS_MAX


def _share(value: Any) -> float:
    return float(value) if type(value) in (int, float) and 0 <= value <= 1 else 0.0


def _is_possible(shape: ModelShape) -> bool:
    widths = (shape.hidden, shape.intermediate, shape.query_width, shape.key_width)
    return shape.layers <= _LAYERS_MAX and all(0 < width <= _WIDTH_MAX for width in widths)
