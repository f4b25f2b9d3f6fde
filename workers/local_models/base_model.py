"""Loads a base model from a local folder, as a classifier or bare. Code that comes with a model is never run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from jobspecs.lifecycle import Reason
from jobspecs.references import TFIDF_SVM
from workers.local_models.tfidf_svm import is_tfidf_svm
from workers.run.context import RunFailed

#: What the library raises for folders that it can't make a model or tokenizer of.
_LOAD_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError)
#: Names of the dropout probabilities in the configurations of encoders.
_DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "dropout",
    "attention_dropout",
    "seq_classif_dropout",
    "embedding_dropout",
    "mlp_dropout",
)


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer. `max_tokens`: the longest text that its positions reach."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int
    #: Whether the folder held the head too; otherwise it was drawn at random.
    has_head: bool = True

    @property
    def pad_id(self) -> int:
        """The id that fills padded batches."""
        return int(self.tokenizer.pad_token_id or 0)

    @property
    def has_types(self) -> bool:
        """Whether the model tells the two texts of a pair apart by token types."""
        several = int(getattr(self.model.config, "type_vocab_size", 0) or 0) > 1
        return several and "token_type_ids" in self.tokenizer.model_input_names


def load_base(model_dir: Path, classes: Sequence[str], seed: int, dropout: float | None = None) -> LoadedModel:
    """The encoder with a classification head for these classes, in fp32 on the CPU.

    A head that the folder doesn't hold is drawn from `seed`. Raises RunFailed(invalid_model): foreign code, no
    safetensors, unknown architecture, weights that don't fit.
    """
    config = _config(model_dir)
    config.num_labels = len(classes)
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: index for index, name in enumerate(classes)}
    config.problem_type = "single_label_classification"
    return _assemble_with_head(model_dir, config, seed, dropout)


def load_scorer(model_dir: Path, seed: int, dropout: float | None = None) -> LoadedModel:
    """The encoder with a head of one number, as a cross-encoder has it; otherwise as `load_base`."""
    config = _config(model_dir)
    config.num_labels = 1
    config.problem_type = None  # the one it may have had was of another head
    return _assemble_with_head(model_dir, config, seed, dropout)


def _assemble_with_head(model_dir: Path, config: PretrainedConfig, seed: int, dropout: float | None) -> LoadedModel:
    made_for = next(iter(config.architectures or ()), "")
    if made_for.endswith("ForCausalLM") and config.pad_token_id is None:
        # Its head would look for a text's last token in front of the padding.
        raise invalid_model(
            f"{made_for} is a language model without a padding token: choose an encoder, or take finetune-llm."
        )
    _set_dropout(config, dropout)
    torch.manual_seed(seed)
    return _assemble(model_dir, config, AutoModelForSequenceClassification, headless=True)


def load_encoder(model_dir: Path, seed: int = 0, dropout: float | None = None) -> LoadedModel:
    """The model without any head, in fp32 on the CPU; a classifier's or a language model's head is left behind.

    A pooler that the folder doesn't hold is drawn from `seed`. Raises RunFailed(invalid_model) as `load_base` does.
    """
    config = _config(model_dir)
    _set_dropout(config, dropout)
    torch.manual_seed(seed)
    return _assemble(model_dir, config, AutoModel, headless=True)


def load_causal_lm(model_dir: Path, dtype: torch.dtype = torch.float32, quantization: Any = None) -> LoadedModel:
    """A causal language model, all weights present, on the CPU. Raises RunFailed(invalid_model) as `load_base` does.

    `quantization` (the library's own configuration) packs the linear layers as they are loaded.
    """
    config = _config(model_dir)
    if quantization is not None and getattr(config, "quantization_config", None) is not None:
        raise invalid_model("its weights are quantized already. Choose the unquantized model, or tuning: lora.")
    options = {} if quantization is None else {"quantization_config": quantization, "device_map": {"": "cpu"}}
    return _assemble(model_dir, config, AutoModelForCausalLM, headless=False, dtype=dtype, **options)


def load_classifier(model_dir: Path) -> LoadedModel:
    """A finished classifier, all weights present. Raises RunFailed(invalid_model) as `load_base` does."""
    return _assemble(model_dir, _config(model_dir), AutoModelForSequenceClassification, headless=False)


def _set_dropout(config: PretrainedConfig, dropout: float | None) -> None:
    for name in _DROPOUTS:
        if dropout is not None and hasattr(config, name):
            setattr(config, name, dropout)


def _assemble(model_dir: Path, config: PretrainedConfig, family: Any, *, headless: bool, **options: Any) -> LoadedModel:
    model, has_head = _weights(model_dir, config, family, headless=headless, **options)
    for parameter in model.parameters():
        # Tensors mapped from a file lie at any address, and matrix libraries may round differently for odd ones.
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    tokenizer = load_tokenizer(model_dir)
    rows = cast(torch.nn.Embedding, model.get_input_embeddings()).num_embeddings
    if len(tokenizer) > rows:
        raise invalid_model(f"the tokenizer knows {len(tokenizer)} tokens, the model has embeddings for {rows}.")
    positions = int(getattr(config, "max_position_embeddings", 0) or 8192)
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= int(config.pad_token_id) + 1
    return LoadedModel(model, tokenizer, max(1, min(positions, _tokenizer_limit(tokenizer))), has_head)


def _config(model_dir: Path) -> PretrainedConfig:
    if is_tfidf_svm(read_json(model_dir / "config.json", required=True)):
        raise invalid_model(
            f"it is a linear model on n-grams, from which nothing is trained. Write model: {TFIDF_SVM} to train one."
        )
    for name in ("config.json", "tokenizer_config.json"):
        if "auto_map" in read_json(model_dir / name, required=name == "config.json"):
            raise invalid_model(f"{name} has auto_map: this model needs code of its own, which is never run here.")
    if not list(model_dir.glob("*.safetensors")):
        raise invalid_model(
            "there are no safetensors weights. Convert the model first; pickled weights are never loaded."
        )
    be_quiet()
    try:
        config = AutoConfig.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
    except _LOAD_ERRORS as error:
        raise invalid_model(f"config.json can't be used: {first_line(error)}") from error
    return cast(PretrainedConfig, config)


def _weights(
    model_dir: Path, config: PretrainedConfig, family: Any, *, headless: bool, **options: Any
) -> tuple[PreTrainedModel, bool]:
    """The model, and whether the folder held all of it, head included."""
    try:
        loaded: tuple[Any, dict[str, Any]] = family.from_pretrained(
            model_dir,
            config=config,
            **{"dtype": torch.float32, **options},
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=headless,
            output_loading_info=True,
        )
    except _LOAD_ERRORS as error:
        if isinstance(error, RuntimeError) and "alloc" in str(error):
            raise  # too little memory is no fault of the model
        raise invalid_model(f"the weights can't be loaded: {first_line(error)}") from error
    model, info = loaded
    prefix = "" if family is AutoModel else f"{model.base_model_prefix}."
    absent = [name for name in info["missing_keys"] if not headless or not is_of_head(name, prefix)]
    absent += [str(item[0]) for item in info["mismatched_keys"] if str(item[0]).startswith(prefix)]
    if absent:
        raise invalid_model(f"the weights lack {len(absent)} tensors of the architecture, such as {sorted(absent)[0]}.")
    return cast(PreTrainedModel, model), not info["missing_keys"] and not info["mismatched_keys"]


def is_of_head(name: str, prefix: str) -> bool:
    """Whether the tensor is not the encoder's, whose names have the prefix; a pooler is the head's first layer."""
    return not name.startswith(prefix) or ".pooler." in f".{name}"


def load_tokenizer(model_dir: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model's folder. Raises RunFailed(invalid_model) as `load_base` does."""
    try:
        return cast(
            PreTrainedTokenizerBase,
            AutoTokenizer.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False),
        )
    except _LOAD_ERRORS as error:
        raise invalid_model(f"the tokenizer can't be loaded: {first_line(error)}") from error


def _tokenizer_limit(tokenizer: PreTrainedTokenizerBase) -> int:
    return int(min(tokenizer.model_max_length, 1 << 20))


def be_quiet() -> None:
    """A fresh head and a progress bar per file are no news to the reader of a job's log."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def read_json(path: Path, *, required: bool) -> dict[str, Any]:
    """An object of a model's folder; empty when the file is absent and not required, or holds something else."""
    if not path.is_file():
        if required:
            raise invalid_model(f"there is no {path.name}.")
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise invalid_model(f"{path.name} is not JSON: {error}") from error
    return content if isinstance(content, dict) else {}


def first_line(error: BaseException) -> str:
    """What a library says about a file, short enough for a message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def invalid_model(message: str) -> RunFailed:
    """What to raise when a base model's folder can't be used."""
    return RunFailed(Reason.invalid_model, f"base model: {message}")
