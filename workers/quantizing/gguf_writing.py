"""GGUF: llama.cpp's own converter and its mixtures of types, as auto-round bundles them.

Conversion and types are the library's. Ours is what it leaves out: which type a matrix gets whose rows are no multiple
of a type's block, and the name of a byte-level pre-tokenizer that the converter's list of hashes does not have.
"""

from __future__ import annotations

import importlib
import json
import logging
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import PreTrainedModel

from jobspecs.lifecycle import Reason
from workers.local_models.base_model import first_line
from workers.local_models.gguf_model import load_weights, stored_types
from workers.quantizing.gguf_k_types import k_types
from workers.quantizing.interface import Order, Written
from workers.run.context import RunFailed

_log = logging.getLogger(__name__)

#: Of the converter's architectures those whose code was read: others run code of a model's repository, or want files of
#: SentencePiece.
ARCHITECTURES = frozenset(
    {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "SmolLM3ForCausalLM"}
)
_Type = gguf.GGMLQuantizationType
#: Rows of K-types are cut into blocks of 256. llama.cpp gives rows that are no multiple of it the next type of blocks
#: of 32 (`llama-quant.cpp`, tensor_type_fallback), and others fp16.
_INSTEAD = {
    _Type.Q2_K: _Type.Q4_0,
    _Type.Q3_K: _Type.Q4_0,
    _Type.Q4_K: _Type.Q5_0,
    _Type.Q5_K: _Type.Q5_1,
    _Type.Q6_K: _Type.Q8_0,
}
#: The patterns of byte-level pre-tokenizers, by the name that llama.cpp has for them.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_PATTERNS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+": "llama-bpe",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+": "qwen2",
    _GPT2: "gpt-2",
}


def write(order: Order) -> Written:
    """One file. Raises RunFailed(invalid_model) for architectures and tokenizers that llama.cpp does not know."""
    spec = order.spec
    file = order.output / f"{spec.name}.{spec.gguf_type.upper()}.gguf"
    with k_types(order.between), torch.inference_mode():
        try:
            model = _converter(order.folder, file, spec.gguf_type, spec.name, order)
            model.write()
        except NotImplementedError as error:
            raise RunFailed(Reason.invalid_model, f"it can't become a GGUF: {first_line(error)}") from error
    reader = gguf.GGUFReader(file)
    return Written(
        bits=8 * sum(int(tensor.n_bytes) for tensor in reader.tensors),
        weights=sum(int(tensor.n_elements) for tensor in reader.tensors),
        stored_as=stored_types(reader),
        notes=_notes(spec.gguf_type, reader),
        libraries=("gguf", "auto-round"),
    )


def load(folder: Path) -> PreTrainedModel:
    """The file's values, dequantised: what llama.cpp multiplies with, but for its own rounding of activations."""
    (file,) = folder.glob("*.gguf")
    return load_weights(file)


def type_of(wanted: gguf.GGMLQuantizationType, columns: int) -> gguf.GGMLQuantizationType:
    """`wanted`, or what llama.cpp takes instead where rows of so many columns can't be cut into its blocks."""
    for kind in (wanted, _INSTEAD.get(wanted, _Type.F16)):
        if columns % gguf.GGML_QUANT_SIZES[kind][0] == 0:
            return kind
    return _Type.F16


def pre_tokenizer(folder: Path) -> str:
    """llama.cpp's name for how tokenizer.json cuts texts before merging. Raises NotImplementedError."""
    steps = _steps(folder)
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    pattern = steps[0].get("pattern", {}).get("Regex") if kinds == ["Split", "ByteLevel"] else None
    if pattern in _PATTERNS:
        return _PATTERNS[pattern]
    raise NotImplementedError(
        f"llama.cpp has no name for the way its tokenizer cuts texts ({', '.join(map(str, kinds))})"
    )


def _steps(folder: Path) -> list[dict[str, Any]]:
    """How tokenizer.json cuts texts, one step after the other; one empty step where it does not."""
    document = json.loads((folder / "tokenizer.json").read_bytes())
    found = document.get("pre_tokenizer") or {}
    steps: list[dict[str, Any]] = found.get("pretokenizers") or [found]
    return steps


def _converter(folder: Path, file: Path, type_name: str, name: str, order: Order) -> Any:
    """The library's converter of this architecture, told which type each matrix gets."""
    config = json.loads((folder / "config.json").read_bytes())
    architecture = next(iter(config.get("architectures") or ()), "none")
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise NotImplementedError(f"its architecture is {architecture}; known are: {known}")
    bundled = importlib.import_module("auto_round.export.export_to_gguf.llama_cpp_conversion")
    types = importlib.import_module("auto_round.export.export_to_gguf.gguf_dtype")
    base: Any = bundled.get_conversion(folder, auto_update=False).get_model_class(architecture)
    ftype = types.gguf_format_to_ftype(f"gguf:{type_name}")
    selector = types.GGUFDTypeSelector(config, ftype, has_tied_embeddings=bool(config.get("tie_word_embeddings")))

    byte_level = _steps(folder)[-1].get("type") == "ByteLevel"

    class Converter(base):  # type: ignore[misc]
        """Which type each matrix gets, and how texts are cut."""

        model_arch = base.model_arch

        def tensor_force_quant(self, name: str, new_name: str, bid: int | None, n_dims: int) -> Any:
            order.between()
            columns = int(self.columns[name])
            return type_of(selector.select_qtype(new_name, n_dims), columns) if n_dims > 1 else False

        def modify_tensors(self, data_torch: torch.Tensor, name: str, bid: int | None) -> Any:
            self.columns[name] = data_torch.shape[-1]
            return super().modify_tensors(data_torch, name, bid)

        def write(self) -> None:
            """As the library's, without its bar."""
            self.prepare_tensors()
            self.prepare_metadata(vocab_only=False)
            try:
                self.gguf_writer.write_header_to_file(path=self.fname_out)
                self.gguf_writer.write_kv_data_to_file()
                self.gguf_writer.write_tensors_to_file(progress=False)
            finally:
                self.gguf_writer.close()

        def _set_vocab_llama_hf(self) -> None:
            # Tokenizers that came out of a GGUF say of themselves that they fall back on bytes, and are byte-level.
            if byte_level:
                raise TypeError("its tokens are written in GPT-2's letters")
            super()._set_vocab_llama_hf()

        def _create_vocab_sentencepiece(self) -> Any:
            # From here the library goes on with tokenizer.json, which every model here has.
            raise FileNotFoundError("tokenizer.model")

        def get_vocab_base_pre(self, tokenizer: Any) -> str:
            try:
                return str(super().get_vocab_base_pre(tokenizer))
            except NotImplementedError:
                return pre_tokenizer(folder)

    Converter.columns = {}
    return Converter(folder, ftype, file, model_name=name)


def _notes(type_name: str, reader: gguf.GGUFReader) -> tuple[str, ...]:
    if "_k" not in type_name:
        return ()
    small = sum(1 for tensor in reader.tensors if len(tensor.shape) > 1 and int(tensor.shape[0]) % gguf.QK_K)
    if not small:
        return ()
    return (
        f"{small} matrices have rows that are no multiple of {gguf.QK_K}: as in llama.cpp they have types of blocks of "
        "32 instead, with more bits.",
    )
