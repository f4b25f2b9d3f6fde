"""An embedder: loaded from a folder, asked for vectors, written to a folder that sentence-transformers loads.

model = load_embedder(folder)
vectors = model.encode(["Berlin ist die Hauptstadt.", "Paris"], prompt_name="query")    # (2, D) float32, length 1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from workers.local_models.base_model import first_line, invalid_model, load_encoder, read_json
from workers.local_models.embedding_folder import Layout, read_layout, read_tensors, write_layout
from workers.local_models.embedding_network import EmbeddingNetwork, StaticTable
from workers.local_models.tokens import TokenTable, by_length, tokenize

#: Tokens of one batch, padding included.
_BATCH_TOKENS = 4096
#: A static embedding has no positions that could run out; this keeps one text from filling the memory.
_STATIC_TOKENS_MAX = 1 << 16

Float32s = npt.NDArray[np.float32]


@dataclass
class EmbeddingModel:
    """An embedder on one device. Not for several threads at once."""

    network: EmbeddingNetwork
    tokenizer: PreTrainedTokenizerBase
    #: Longer texts are cut.
    max_tokens: int
    #: Name -> what is put before a text; `default_prompt_name` is used where none is named.
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    #: Embeddings are cut to this many dimensions where none are asked for.
    truncate_dim: int | None = None
    lowercase: bool = False

    @property
    def dimensions(self) -> int:
        """D, of the embeddings that `encode` gives when asked for no number."""
        return min(self.network.dimensions, self.truncate_dim or self.network.dimensions)

    @property
    def static(self) -> bool:
        """Whether this is a table of token embeddings without layers."""
        return self.network.static

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        normalize: bool = True,
        dimensions: int | None = None,
        after_batch: Callable[[int], None] = lambda done: None,
    ) -> Float32s:
        """Embeddings (N, D) in the order of the texts. `dimensions`: the first so many, normalised anew.

        `after_batch` is told the number of texts done and may raise to stop. Raises ValueError, with a message for
        people, for an unknown prompt and for more dimensions than there are.
        """
        width = self._width(dimensions)
        prompt = self.prompt(prompt_name)
        tokens = self.tokenize([prompt + text for text in texts])
        return self.encode_tokens(tokens, normalize=normalize, dimensions=width, after_batch=after_batch)

    def encode_tokens(
        self,
        tokens: TokenTable,
        *,
        normalize: bool = True,
        dimensions: int | None = None,
        after_batch: Callable[[int], None] = lambda done: None,
    ) -> Float32s:
        """`encode` for texts that are tokens already."""
        width, device, done = self._width(dimensions), self.device, 0
        embeddings = np.zeros((len(tokens), width), dtype=np.float32)
        for rows in by_length(tokens.lengths, _BATCH_TOKENS):
            with torch.inference_mode():
                found = self.network.embed(tokens, rows, device)[:, :width]
                if normalize:
                    found = torch.nn.functional.normalize(found, dim=-1)
                embeddings[rows] = found.cpu().numpy()
            done += len(rows)
            after_batch(done)
        return embeddings

    def tokenize(
        self,
        texts: Sequence[str],
        max_tokens: int | None = None,
        between_chunks: Callable[[int], None] = lambda done: None,
    ) -> TokenTable:
        """The tokens of texts with their prompts, cut to `max_tokens` or the model's own limit if that is less."""
        prepared = [text.lower() for text in texts] if self.lowercase else texts
        limit = min(max_tokens or self.max_tokens, self.max_tokens)
        return tokenize(self.tokenizer, prepared, limit, between_chunks, special_tokens=not self.static)

    def count_tokens(self, texts: Sequence[str], *, prompt_name: str | None = None) -> list[int]:
        """Tokens of each text with its prompt and special tokens, before any cut."""
        prompt = self.prompt(prompt_name)
        prepared = [(prompt + text).lower() if self.lowercase else prompt + text for text in texts]
        whole = tokenize(self.tokenizer, prepared, 1 << 30, special_tokens=not self.static)
        return [int(length) for length in whole.lengths]

    def prompt(self, name: str | None) -> str:
        """What is put before each text. Raises ValueError for an unknown name."""
        name = self.default_prompt_name if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            known = ", ".join(sorted(self.prompts)) or "it has none"
            raise ValueError(f"the model has no prompt {name!r}; known: {known}.")
        return self.prompts[name]

    def prompt_before(self, side: Literal["query", "passage", "text"]) -> str:
        """What this model puts before texts of a side: the prompt of that name (or `document`), else its default."""
        names = ("passage", "document") if side == "passage" else (side,)
        return self.prompt(next((name for name in names if name in self.prompts), None))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def _width(self, dimensions: int | None) -> int:
        if dimensions is None:
            return self.dimensions
        if not 1 <= dimensions <= self.network.dimensions:
            raise ValueError(f"the model has {self.network.dimensions} dimensions; {dimensions} can't be had.")
        return dimensions


def load_embedder(
    folder: Path,
    *,
    seed: int = 0,
    dropout: float | None = None,
    pooling: Literal["auto", "mean", "cls"] = "auto",
    static: bool = False,
) -> EmbeddingModel:
    """The embedder in a folder of sentence-transformers, or a plain encoder with mean pooling; fp32 on the CPU.

    `pooling` replaces the folder's own. `static` leaves an encoder's table of token embeddings and no layers.
    Raises RunFailed(invalid_model): foreign code, no safetensors, unknown modules, weights that don't fit.
    """
    layout = read_layout(folder)
    if layout.static:
        model = _static_model(layout)
    else:
        model = _encoder_model(layout, seed, dropout, pooling)
        if static:
            table = model.network.encoder.get_input_embeddings().weight.detach().clone()
            network = EmbeddingNetwork(StaticTable(table), ("mean",), ())
            model = replace(model, network=network, max_tokens=_STATIC_TOKENS_MAX)
    model.prompts, model.default_prompt_name = dict(layout.prompts), layout.default_prompt_name
    if model.default_prompt_name not in (None, *model.prompts):
        model.default_prompt_name = None
    model.truncate_dim = layout.truncate_dim
    model.network.train(False)
    return model


def write_embedder(root: Path, model: EmbeddingModel) -> None:
    """Weights (safetensors), tokenizer, and the files by which sentence-transformers knows what follows what."""
    network = model.network.cpu()
    if network.static:
        weight = network.encoder.embedding.weight.detach().contiguous()
        save_file({"embedding.weight": weight}, root / "model.safetensors")
        tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if model.max_tokens < _STATIC_TOKENS_MAX:
            tokenizer.enable_truncation(model.max_tokens)
        tokenizer.save(str(root / "tokenizer.json"))
    else:
        network.encoder.config.architectures = [type(network.encoder).__name__]
        network.encoder.save_pretrained(root)
        model.tokenizer.model_max_length = model.max_tokens
        model.tokenizer.save_pretrained(root)
    layout = Layout(
        max_tokens=model.max_tokens,
        lowercase=model.lowercase,
        prompts=_library_prompts(model),
        default_prompt_name=model.default_prompt_name,
        truncate_dim=model.truncate_dim,
    )
    write_layout(root, layout, network, version("sentence-transformers"))


def _encoder_model(layout: Layout, seed: int, dropout: float | None, pooling: str) -> EmbeddingModel:
    loaded = load_encoder(layout.encoder, seed, dropout)
    names = (pooling,) if pooling != "auto" else layout.pooling or ("mean",)
    network = EmbeddingNetwork(loaded.model, names, layout.tail, loaded.pad_id)
    limit = min(loaded.max_tokens, layout.max_tokens or loaded.max_tokens)
    return EmbeddingModel(network, loaded.tokenizer, limit, lowercase=layout.lowercase)


def _static_model(layout: Layout) -> EmbeddingModel:
    tensors = read_tensors(layout.encoder)
    weight = tensors.get("embedding.weight")
    if weight is None:
        weight = _folded(tensors)
    path = layout.encoder / "tokenizer.json"
    read_json(path, required=True)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises its own bare Exception
        raise invalid_model(f"the tokenizer can't be loaded: {first_line(error)}") from error
    if tokenizer.get_vocab_size() > len(weight):
        raise invalid_model(
            f"the tokenizer knows {tokenizer.get_vocab_size()} tokens, the model has embeddings for {len(weight)}."
        )
    truncation: dict[str, Any] | None = tokenizer.truncation
    limit = truncation["max_length"] if truncation else _STATIC_TOKENS_MAX
    network = EmbeddingNetwork(StaticTable(weight.float().clone()), ("mean",), layout.tail)
    return EmbeddingModel(network, PreTrainedTokenizerFast(tokenizer_object=tokenizer), limit)


def _folded(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """One row per token from model2vec's files, which share rows between tokens and weigh them."""
    weight, mapping, weights = (tensors.get(name) for name in ("embeddings", "mapping", "weights"))
    if weight is None:
        raise invalid_model("the weights hold no table of token embeddings.")
    weight = weight.float()
    if mapping is not None:
        weight = weight[mapping.long()]
    return weight if weights is None else weight * weights.float()[:, None]


def _library_prompts(model: EmbeddingModel) -> dict[str, str]:
    """The prompts under the names that sentence-transformers' encode_query and encode_document look for as well.

    It has an empty one of either name for a model that brings none, and takes that before `passage` or the default.
    """
    sides = {"query": model.prompt_before("query"), "document": model.prompt_before("passage")}
    return {name: prompt for name, prompt in sides.items() if prompt} | dict(model.prompts)
