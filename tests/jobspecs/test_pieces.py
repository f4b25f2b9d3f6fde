"""Where files are cut, so that what two of them share is stored once."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from jobspecs.pieces import MIB, PIECE_BYTES_MAX, PIECE_BYTES_MIN, piece_sizes


def weights(path: Path, tensors: Sequence[tuple[str, int]], *, note: str = "") -> list[int]:
    """A sparse safetensors file of tensors of so many MiB; returns where its pieces end."""
    header: dict[str, object] = {"__metadata__": {"note": note}}
    at = 0
    for name, mib in tensors:
        header[name] = {"dtype": "U8", "shape": [mib * MIB], "data_offsets": [at, at + mib * MIB]}
        at += mib * MIB
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    sizes = piece_sizes(path)
    assert sum(sizes) == path.stat().st_size
    assert all(PIECE_BYTES_MIN <= size <= PIECE_BYTES_MAX for size in sizes[:-1])
    return [sum(sizes[: number + 1]) - 8 - len(text) for number in range(len(sizes))]


def test_a_large_tensor_has_pieces_of_its_own_but_for_its_first_bytes(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    small_before = weights(file, [("a", 2), ("b", 40), ("c", 9)])
    assert small_before == [7 * MIB, 23 * MIB, 42 * MIB, 51 * MIB]
    # Another header, and other small tensors before it: what follows is cut at the same bytes of the large one.
    assert weights(file, [("a0", 1), ("a1", 3), ("b", 40), ("c", 9)], note="x" * 999) == [
        end + 2 * MIB for end in small_before
    ]


def test_small_tensors_are_gathered_and_the_last_piece_may_be_small(tmp_path: Path) -> None:
    ends = weights(tmp_path / "model.safetensors", [(f"t{number}", 3) for number in range(7)])
    assert ends == [6 * MIB, 12 * MIB, 18 * MIB, 21 * MIB]


def test_other_files_are_cut_in_strides_and_small_ones_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    for size, pieces in ((0, [0]), (PIECE_BYTES_MIN, [PIECE_BYTES_MIN]), (40 * MIB, [16 * MIB, 16 * MIB, 8 * MIB])):
        with file.open("wb") as stream:
            stream.truncate(size)
        assert piece_sizes(file) == pieces


@pytest.mark.parametrize(
    "header",
    [
        b"no json",
        b"[1]",
        b'{"w": 3}',
        b'{"w": {"data_offsets": [0]}}',
        b'{"w": {"data_offsets": ["0", 5]}}',
        b'{"w": {"data_offsets": [0, 99999999999]}}',
        b'{"a": {"data_offsets": [0, 5]}, "b": {"data_offsets": [3, 9]}}',
        b"[" * 100_000,
    ],
)
def test_a_broken_header_is_cut_as_any_other_file(tmp_path: Path, header: bytes) -> None:
    file = tmp_path / "model.safetensors"
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(20 * MIB)
    assert piece_sizes(file) == [16 * MIB, 4 * MIB]
