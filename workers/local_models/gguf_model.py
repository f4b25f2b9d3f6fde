"""A language model out of a GGUF file: weights dequantised, tokenizer and chat template as the file describes them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from jobspecs.lifecycle import Reason
from workers.local_models.base_model import first_line
from workers.run.context import RunFailed

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: Weight matrices that are compared with the file after the conversion.
COMPARED_TENSORS = 16
#: What the libraries raise for files that they can't make a model or tokenizer of.
_LOAD_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, ImportError, RuntimeError)
_SPECIAL_TOKENS = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
}


@dataclass(frozen=True)
class GgufModel:
    """What a GGUF file holds, ready to be saved."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    #: How the weights were stored: type of quantization -> number of tensors.
    stored_as: dict[str, int]
    #: `general.name`, `general.license` and the like, as far as the file has them.
    facts: dict[str, str]


@dataclass(frozen=True)
class Parity:
    """How the converted weights compare with the file's own, dequantised by the reference implementation."""

    compared: int
    #: Equal value by value.
    equal: int
    #: The same values in another order: llama.cpp stores the rows of some rotary projections interleaved.
    reordered: int
    different: tuple[str, ...]


def load_gguf(file: Path, dtype: str) -> GgufModel:
    """Loads on the CPU. Raises RunFailed(invalid_model) when transformers can't make a model of it."""
    model = load_weights(file)
    with _refused(file):
        reader = gguf.GGUFReader(file)
        tokenizer = AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name, local_files_only=True, trust_remote_code=False
        )
    _set_special_tokens(tokenizer, reader)
    return GgufModel(
        model=model.to(DTYPES[dtype]),
        tokenizer=tokenizer,
        stored_as=stored_types(reader),
        facts=_facts(reader),
    )


def load_weights(file: Path) -> PreTrainedModel:
    """The model alone, dequantised to fp32, on the CPU: its tokenizer takes ten times as long. Raises RunFailed."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with _refused(file):
        loaded: tuple[Any, dict[str, Any]] = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise RunFailed(
            Reason.invalid_model, f"{file.name} lacks {len(missing)} tensors of the architecture, such as {missing[0]}."
        )
    return _freed(model)


@contextmanager
def _refused(file: Path) -> Iterator[None]:
    """What the libraries raise of the file becomes RunFailed(invalid_model)."""
    try:
        yield
    except (*_LOAD_ERRORS, SafetensorError) as error:
        if isinstance(error, RuntimeError) and "alloc" in str(error):
            raise  # too little memory is no fault of the file
        raise RunFailed(Reason.invalid_model, f"{file.name} can't be converted: {first_line(error)}") from error


def compare(converted: GgufModel, file: Path) -> Parity:
    """Compares a sample of the weight matrices; norms and fused ones, which converters compute anew, are left out."""
    reader = gguf.GGUFReader(file)
    stored = {tensor.name: tensor for tensor in reader.tensors}
    names = _names(reader, list(converted.model.state_dict()))
    pairs = [(ours, theirs) for ours, theirs in names.items() if theirs in stored and len(stored[theirs].shape) == 2]
    # Drawn, and the same each time: every n-th matrix would be of the same kind in each layer.
    sample = random.Random(0).sample(pairs, min(COMPARED_TENSORS, len(pairs)))
    state = converted.model.state_dict()
    equal, reordered, different = 0, 0, []
    for ours, theirs in sample:
        tensor = stored[theirs]
        expected = torch.from_numpy(np.array(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
        actual = state[ours]
        expected = expected.to(actual.dtype)
        if actual.shape == expected.shape and torch.equal(actual, expected):
            equal += 1
        elif torch.equal(actual.flatten().sort().values, expected.flatten().sort().values):
            reordered += 1
        else:
            different.append(theirs)
    return Parity(len(sample), equal, reordered, tuple(different))


def finite_logits(converted: GgufModel) -> bool:
    """Whether the model answers a few tokens with finite logits."""
    tokens = converted.tokenizer("The quick brown fox")["input_ids"]
    with torch.inference_mode():
        logits = converted.model(input_ids=torch.tensor([tokens])).logits
    return bool(torch.isfinite(logits.float()).all())


def write_language_model(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Weights (safetensors), configuration, tokenizer and chat template."""
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _freed(model: PreTrainedModel) -> PreTrainedModel:
    """Without what the library remembers of the quantization: with it, it refuses to save the model."""
    model.hf_quantizer = None
    model.is_quantized = False
    model.quantization_method = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def _set_special_tokens(tokenizer: PreTrainedTokenizerBase, reader: gguf.GGUFReader) -> None:
    """The file's own ids: guesses by name would end SmolLM2's answers at the wrong token."""
    tokens = _field(reader, "tokenizer.ggml.tokens") or []
    for attribute, key in _SPECIAL_TOKENS.items():
        number = _field(reader, key)
        if isinstance(number, int) and 0 <= number < len(tokens):
            setattr(tokenizer, attribute, tokens[number])
    context = _field(reader, f"{_field(reader, 'general.architecture')}.context_length")
    if isinstance(context, int):
        tokenizer.model_max_length = context
    # It would take the spaces before punctuation out of decoded text.
    tokenizer.clean_up_tokenization_spaces = False


def _names(reader: gguf.GGUFReader, ours: Sequence[str]) -> dict[str, str]:
    """Our tensor's name -> the file's, as far as llama.cpp's own table knows them."""
    architecture = str(_field(reader, "general.architecture"))
    by_name = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    if architecture not in by_name:
        return {}
    blocks = _field(reader, f"{architecture}.block_count")
    table = gguf.get_tensor_name_map(by_name[architecture], blocks if isinstance(blocks, int) else 0)
    named = {name: table.get_name(name, try_suffixes=(".weight",)) for name in ours}
    return {name: theirs for name, theirs in named.items() if theirs is not None}


def stored_types(reader: gguf.GGUFReader) -> dict[str, int]:
    """Type of quantization -> number of tensors that are stored so."""
    names = [gguf.GGMLQuantizationType(tensor.tensor_type).name for tensor in reader.tensors]
    return {name: names.count(name) for name in sorted(set(names))}


def _facts(reader: gguf.GGUFReader) -> dict[str, str]:
    wanted = ("architecture", "name", "organization", "license", "size_label")
    found = {name: _field(reader, f"general.{name}") for name in wanted}
    return {name: str(value)[:200] for name, value in found.items() if value}


def _field(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.fields.get(key)
    return None if field is None else field.contents()
