"""The tensors of a model's folder, read one by one, and a folder that is written in the same way."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import torch
from safetensors import SafetensorError, safe_open

from workers.local_models.base_model import invalid_model

INDEX = "model.safetensors.index.json"
#: Bytes of a file of weights, as transformers writes them.
SHARD_BYTES = 5 * 10**9
_NAMES = {
    **{torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.bool: "BOOL"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8"},
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


@dataclass(frozen=True)
class TensorShape:
    """A tensor without its values."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * int(self.dtype.itemsize)


class ModelWeights:
    """The weights below a folder, mapped, not loaded: pages are read as they are needed, and are the file's own.

    Raises RunFailed(invalid_model) for a folder without safetensors, or with one that can't be read.
    """

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise invalid_model(f"{folder.name}: there are no safetensors weights; pickled weights are never loaded.")
        self.tensors: dict[str, TensorShape] = {}
        self._files: dict[str, Any] = {}
        self._open = ExitStack()
        for path in files:
            self._add(path, folder.name)

    def _add(self, path: Path, label: str) -> None:
        try:
            file = self._open.enter_context(safe_open(path, framework="pt"))
            for name in file.offset_keys():
                view = file.get_slice(name)
                self.tensors[name] = TensorShape(tuple(view.get_shape()), _dtype(view.get_dtype(), name, label))
                self._files[name] = file
        except (SafetensorError, OSError) as error:
            raise invalid_model(f"{label}: {path.name} can't be read: {error}") from error

    def read(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor

    def close(self) -> None:
        self._files.clear()
        self._open.close()


def _dtype(name: str, tensor: str, label: str) -> torch.dtype:
    if name not in _DTYPES:
        raise invalid_model(f"{label}: {tensor} is stored as {name}, which is not merged. Merge before quantizing.")
    return _DTYPES[name]


class WeightsWriter:
    """Writes tensors whose names, shapes and order are known beforehand; none is kept.

    Raises OSError (ENOSPC: disk full).
    """

    def __init__(
        self, folder: Path, tensors: Sequence[tuple[str, TensorShape]], shard_bytes: int = SHARD_BYTES
    ) -> None:
        self._folder, self._shards = folder, list(_in_shards(tensors, shard_bytes))
        self._total = sum(shape.bytes for _, shape in tensors)
        self._expected = self._in_order()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if kind is None and len(self._shards) > 1:
            files = {name: self._name(place) for place, shard in enumerate(self._shards) for name, _ in shard}
            index = {"metadata": {"total_size": self._total}, "weight_map": files}
            (self._folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True), encoding="utf-8")

    def write(self, name: str, pieces: Iterable[torch.Tensor]) -> None:
        """`pieces`: the tensor's elements in order, in its dtype."""
        expected, shape = next(self._expected)
        if name != expected or self._file is None:
            raise ValueError(f"{name} is written where {expected} was announced")
        written = 0
        for piece in pieces:
            written += self._file.write(piece.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        if written != shape.bytes:
            raise ValueError(f"{name} has {written} bytes instead of {shape.bytes}")

    def _in_order(self) -> Iterator[tuple[str, TensorShape]]:
        for place, shard in enumerate(self._shards):
            if self._file is not None:
                self._file.close()
            self._file = (self._folder / self._name(place)).open("wb")
            self._file.write(_header(shard))
            yield from shard

    def _name(self, place: int) -> str:
        count = len(self._shards)
        return "model.safetensors" if count == 1 else f"model-{place + 1:05d}-of-{count:05d}.safetensors"


def _in_shards(tensors: Sequence[tuple[str, TensorShape]], shard_bytes: int) -> Iterator[list[tuple[str, TensorShape]]]:
    shard: list[tuple[str, TensorShape]] = []
    held = 0
    for name, shape in tensors:
        if shard and held + shape.bytes > shard_bytes:
            yield shard
            shard, held = [], 0
        shard.append((name, shape))
        held += shape.bytes
    if shard:
        yield shard


def _header(shard: Sequence[tuple[str, TensorShape]]) -> bytes:
    """What a safetensors file begins with: the length of a JSON document in 8 bytes, and that, padded with spaces."""
    told: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shard:
        told[name] = {
            "dtype": _NAMES[shape.dtype],
            "shape": list(shape.shape),
            "data_offsets": [at, at + shape.bytes],
        }
        at += shape.bytes
    content = json.dumps(told, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content
