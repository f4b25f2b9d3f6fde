"""Which files may become part of a model: data that no loader executes. Everything else is refused, with the reason."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from api.registry.gguf_header import BadGguf, check_gguf
from jobspecs.manifest import MANIFEST_NAME, check_relative_path
from jobspecs.model_tasks import task_of_model
from jobspecs.problems import InvalidInput, Problem
from jobspecs.strict_json import CONTAINERS_MAX, UnacceptableJson, parse_json_file

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
INDEX = "model.safetensors.index.json"
SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja", ".md", ".gguf", ".spm")
#: Formats that can hold pickled objects or code.
_EXECUTABLE = (
    *(
        ".bin",
        ".pt",
        ".pth",
        ".ckpt",
        ".pkl",
        ".pickle",
        ".joblib",
        ".npy",
        ".npz",
        ".h5",
        ".keras",
        ".pt2",
        ".msgpack",
    ),
    *(".pb", ".tar", ".zip", ".nemo", ".py"),
)
SAFETENSORS_HEADER_BYTES_MAX = 8_000_000
TENSORS_MAX = 20_000
#: An object and two lists for each tensor, and some more.
_HEADER_CONTAINERS_MAX = 4 * TENSORS_MAX
#: Dimensions of a tensor. The product of 100,000 numbers of 63 bits took 28 s.
RANK_MAX = 16
#: A tokenizer's vocabulary may take tens of megabytes of JSON.
TOKENIZER_BYTES_MAX = 64 * 1024 * 1024
#: Other JSON files; the index of a model in 163 parts has 9 MB. The platform reads some of them itself, so they are few
#: lists and objects, each as long as it may be.
DOCUMENT_BYTES_MAX = 16 * 1024 * 1024
CONFIG_BYTES_MAX = 4 * 1024 * 1024
_DOCUMENT_CONTAINERS_MAX = 20_000
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SEGMENTS_MAX = 4
_PATH_CHARS_MAX = 500
_ARCHIVE_OR_PICKLE = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x1f\x8b")
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "added_tokens.json")
#: Fields that make a loader import code.
_CODE_FIELDS = ("auto_map", "custom_pipelines")
_DTYPE_BITS = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
    **{"U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32},
    **{"U64": 64, "I64": 64, "F64": 64, "C64": 64},
}


def check_import_path(path: str) -> str:
    """Returns `path` when a file may have it; raises InvalidInput before its body is read."""
    suffix = PurePosixPath(path).suffix.lower()
    try:
        check_relative_path(path)
    except ValueError as error:
        raise _refused(path, f"{error}.", "Send a path such as config.json or 1_Pooling/config.json.") from error
    segments = path.split("/")
    if len(segments) > _SEGMENTS_MAX or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise _refused(path, "the path has other characters or more folders than a model's files have.", "Rename it.")
    if path == MANIFEST_NAME:
        raise _refused(path, "the platform writes the manifest itself.", "Leave the file out.")
    if suffix in _EXECUTABLE:
        raise _refused(
            path,
            f"{suffix} files can hold code that runs when they are loaded.",
            "Convert the weights to safetensors, with transformers: model.save_pretrained(folder).",
        )
    if suffix not in SUFFIXES:
        raise _refused(path, "this is no file of a model.", f"Allowed endings: {', '.join(SUFFIXES)}.")
    return path


def check_import_file(path: str, content: Path) -> None:
    """Looks into a received file. Raises InvalidInput when it is not what its name says."""
    suffix = PurePosixPath(path).suffix.lower()
    with content.open("rb") as stream:
        start = stream.read(8)
    # A safetensors file may begin with these bytes by chance: they are the length of its header, which is checked.
    if suffix != ".safetensors" and start.startswith(_ARCHIVE_OR_PICKLE):
        raise _refused(path, "the content is a pickle or an archive.", "Send the plain file.")
    if suffix == ".safetensors":
        check_safetensors(path, content)
    elif suffix == ".gguf":
        _check_gguf(path, content)
    elif suffix == ".json":
        _check_json(path, content)


def check_import(folder: Path, paths: frozenset[str]) -> str | None:
    """What the model of these paths can serve. `folder` has those of CONFIG and INDEX that are among them.

    Raises InvalidInput when the index names a file that is not among them, or no folder can hold all of them.
    """
    for path in sorted(paths):
        for above in PurePosixPath(path).parents:
            if str(above) in paths:
                raise _refused(path, f"{above} is a file of this model, and can't be a folder too.", "Rename one.")
    if INDEX in paths:
        for shard in shards_named(folder):
            if shard not in paths:
                raise missing(shard, "the index names a file that was not sent.")
    return task_of_model(_object(folder, CONFIG), paths) if CONFIG in paths else None


def shards_named(folder: Path) -> list[str]:
    """The files with weights that the INDEX in `folder` names. Raises InvalidInput when it is none."""
    weight_map = _object(folder, INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise missing(INDEX, "the index has no weight_map.")
    return sorted({str(shard)[:_PATH_CHARS_MAX] for shard in weight_map.values()})


def adapter_base(folder: Path) -> dict[str, str | None]:
    """`base` and `revision` of the model that the adapter in `folder` changes. Raises InvalidInput."""
    stated = _object(folder, ADAPTER_CONFIG)
    base, revision = stated.get("base_model_name_or_path"), stated.get("revision")
    if not isinstance(base, str):
        raise _refused(ADAPTER_CONFIG, "it names no base.", "Set base_model_name_or_path to owner/name of the base.")
    return {"base": base, "revision": revision if isinstance(revision, str) else None}


def missing(path: str, message: str) -> InvalidInput:
    return _refused(path, message, "Send it, then complete the import.")


def check_safetensors(path: str, content: Path) -> None:
    """The header is small, is JSON, and its tensors fill the file exactly (as the format demands)."""
    size = content.stat().st_size
    with content.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(SAFETENSORS_HEADER_BYTES_MAX, size - 8):
            raise _refused(path, "the safetensors header is cut off or larger than 8 MB.", "Save the weights again.")
        header = _json(path, stream.read(length), _HEADER_CONTAINERS_MAX)
    if not isinstance(header, dict):
        raise _refused(path, "the safetensors header is no object.", "Save the weights again.")
    tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
    if not 0 < len(tensors) <= TENSORS_MAX:
        message = f"the file holds {len(tensors)} tensors; 1 to {TENSORS_MAX} are possible."
        raise _refused(path, message, "Save the weights again.")
    spans = sorted(_span(path, name, tensor) for name, tensor in tensors.items())
    gap = any(end != start for (_, end), (start, _) in pairwise(spans))
    if gap or spans[0][0] != 0 or spans[-1][1] != size - 8 - length:
        raise _refused(
            path, "the tensors overlap, leave gaps, or end elsewhere than the file.", "Send it again, whole."
        )


def _check_gguf(path: str, content: Path) -> None:
    try:
        check_gguf(content)
    except BadGguf as error:
        raise _refused(path, f"{error}.", "Send the file that the conversion wrote, whole.") from error


def _span(path: str, name: str, tensor: Any) -> tuple[int, int]:
    """The tensor's bytes, checked against its type and shape."""
    wrong = _refused(path, f"the entry of tensor {name[:100]!r} is not valid.", "Save the weights again.")
    if not isinstance(tensor, dict):
        raise wrong
    bits, shape, offsets = _DTYPE_BITS.get(str(tensor.get("dtype"))), tensor.get("shape"), tensor.get("data_offsets")
    if bits is None or not _naturals(shape, RANK_MAX) or not _naturals(offsets, 2) or len(offsets) != 2:
        raise wrong
    start, end = offsets
    if (end - start) * 8 != math.prod(shape) * bits:
        raise wrong
    return start, end


def _naturals(value: Any, count_max: int) -> TypeGuard[list[int]]:
    few = isinstance(value, list) and len(value) <= count_max
    return few and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _check_json(path: str, content: Path) -> None:
    of_tokenizer = PurePosixPath(path).name in _TOKENIZER_FILES
    bytes_max = TOKENIZER_BYTES_MAX if of_tokenizer else CONFIG_BYTES_MAX if path == CONFIG else DOCUMENT_BYTES_MAX
    if content.stat().st_size > bytes_max:
        raise _refused(path, f"it is larger than {bytes_max // 2**20} MiB.", "Leave the file out, or save it again.")
    document = _json(path, content.read_bytes(), CONTAINERS_MAX if of_tokenizer else _DOCUMENT_CONTAINERS_MAX)
    named = [field for field in _CODE_FIELDS if isinstance(document, dict) and field in document]
    if named:
        raise _refused(
            path,
            f"it names code of its own ({named[0]}), and foreign code is never run here.",
            "Choose a model of an architecture that transformers has built in.",
        )


def _object(folder: Path, path: str) -> dict[str, Any]:
    document = _json(path, (folder / path).read_bytes(), _DOCUMENT_CONTAINERS_MAX)
    return document if isinstance(document, dict) else {}


def _json(path: str, text: bytes, containers_max: int) -> Any:
    try:
        return parse_json_file(text, containers_max)
    except UnacceptableJson as error:
        raise _refused(path, f"the JSON can't be read: {error}.", "Send the file again, whole.") from error


def _refused(path: str, message: str, remedy: str) -> InvalidInput:
    return InvalidInput([Problem(file=path, message=message, remedy=remedy)])
