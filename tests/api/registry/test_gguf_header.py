"""The header of a GGUF: a real one passes, and none of its forgeries does."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from gguf.constants import GGML_QUANT_SIZES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.foreign_files import FILE_LIMITS
from api.registry.gguf_header import BLOCKS, ELEMENTS_MAX, TEXTS_MAX, BadGguf, check_gguf
from corpus.confinement.confinement import Confinement
from tests.workers.local_models.gguf_file import write_tiny_gguf


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf").read_bytes()


def check(content: bytes, folder: Path) -> None:
    path = folder / "forged.gguf"
    path.write_bytes(content)
    check_gguf(path)


def text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def gguf(
    *, tensors: int = 1, entries: bytes = b"", entry_count: int = 0, infos: bytes = b"", data: bytes = b""
) -> bytes:
    header = b"GGUF" + struct.pack("<IQQ", 3, tensors, entry_count) + entries + infos
    return header + b"\0" * (-len(header) % 32) + data


def info(name: bytes = b"w", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def test_a_real_file_passes(real: bytes, tmp_path: Path) -> None:
    check(real, tmp_path)
    check(gguf(infos=info(), data=b"\0" * 128), tmp_path)


def test_the_sizes_of_blocks_are_those_of_the_reference_library() -> None:
    assert {int(kind): size for kind, size in GGML_QUANT_SIZES.items()} == BLOCKS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GGUF", "too short"),
        (b"PK\x03\x04" + b"\0" * 40, "no GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 1, 1, 0), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 1, 0), "version"),
        (gguf(tensors=0), "0 tensors"),
        (gguf(tensors=2**63), "tensors"),
        (gguf(entry_count=2**40), "metadata entries"),
        (gguf(entry_count=1, entries=text(b"k") + struct.pack("<IQ", 8, 2**60)), "middle of its header"),
        (gguf(entry_count=1, entries=text(b"k") + struct.pack("<IIQ", 9, 0, ELEMENTS_MAX + 1)), "more than"),
        (gguf(entry_count=1, entries=text(b"k") + struct.pack("<IIQ", 9, 8, TEXTS_MAX + 1)), "more than"),
        (gguf(entry_count=1, entries=text(b"k") + struct.pack("<IIQ", 9, 9, 1)), "array of arrays"),
        (gguf(entry_count=1, entries=text(b"k") + struct.pack("<I", 77)), "type 77"),
        (gguf(entry_count=1, entries=struct.pack("<Q", 2**50)), "a name has"),
        (gguf(entry_count=1, entries=text(b"general.alignment") + struct.pack("<II", 4, 0)), "alignment"),
        (gguf(infos=info(shape=(32,) * 9)), "9 dimensions"),
        (gguf(infos=info(kind=999)), "unknown type 999"),
        (gguf(infos=info(kind=2, shape=(33,))), "whole blocks"),
        (gguf(infos=info(shape=(2**40, 2**40))), "ends before its last tensor"),
        (gguf(infos=info(offset=5), data=b"\0" * 256), "where it should"),
        (gguf(tensors=2, infos=info() + info(b"v"), data=b"\0" * 256), "overlap"),
        (gguf(infos=info(), data=b"\0" * 100), "ends before its last tensor"),
    ],
)
def test_forgeries_are_refused_with_the_reason(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(BadGguf, match=words):
        check(content, tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 100_000), at=st.integers(0, 6000), value=st.binary(min_size=1, max_size=8))
def test_damaged_files_are_refused_or_read_and_nothing_else(
    real: bytes, tmp_path: Path, cut: int, at: int, value: bytes
) -> None:
    damaged = bytearray(real[: max(0, len(real) - cut)])
    damaged[at : at + len(value)] = value
    try:
        check(bytes(damaged), tmp_path)
    except BadGguf as error:
        assert str(error)


def test_weights_larger_than_the_memory_of_their_check_pass(tmp_path: Path) -> None:
    count = FILE_LIMITS.memory_bytes * 3 // 8
    offsets = json.dumps({"w": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}).encode()
    headers = {
        "model.gguf": gguf(infos=info(shape=(count,))),
        "model.safetensors": struct.pack("<Q", len(offsets)) + offsets,
    }
    confinement = Confinement("api.confined_tasks:TASKS")
    try:
        for name, header in headers.items():
            path = tmp_path / name
            with path.open("wb") as sparse:
                sparse.write(header)
                sparse.truncate(len(header) + 4 * count)
            confinement.run("model_file", {"path": name, "content": path}, FILE_LIMITS)
    finally:
        confinement.close()
