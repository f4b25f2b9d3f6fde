"""A model's files are checked before anything reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest, describe_files, write_manifest
from workers.engines.verification import check_files
from workers.run.context import RunFailed


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, str]:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    manifest = Manifest(artifact="model", files=describe_files(tmp_path))
    write_manifest(tmp_path, manifest)
    return tmp_path, manifest.digest


def _refusal(folder: Path, digest: str) -> str:
    with pytest.raises(RunFailed) as caught:
        check_files(folder, digest)
    assert caught.value.reason is Reason.corrupt_artifact
    return caught.value.message


def test_intact_files_pass(model: tuple[Path, str]) -> None:
    check_files(*model)


@pytest.mark.parametrize("position", [0, 499, 999])
def test_one_flipped_bit_is_found_and_the_file_is_named(model: tuple[Path, str], position: int) -> None:
    weights = bytearray(1000)
    weights[position] ^= 1
    (model[0] / "model.safetensors").write_bytes(weights)
    assert _refusal(*model).startswith("model.safetensors is damaged")


def test_a_missing_file_is_named(model: tuple[Path, str]) -> None:
    (model[0] / "config.json").unlink()
    assert _refusal(*model) == "config.json is missing."


def test_a_file_that_nobody_committed_is_refused(model: tuple[Path, str]) -> None:
    (model[0] / "pytorch_model.bin").write_bytes(b"pickled")
    assert _refusal(*model) == "pytorch_model.bin is not in the manifest."


def test_a_link_is_refused(model: tuple[Path, str]) -> None:
    (model[0] / "link").symlink_to(model[0] / "config.json")
    assert "link" in _refusal(*model)


def test_forged_files_with_a_manifest_to_match_are_refused(model: tuple[Path, str]) -> None:
    folder, digest = model
    (folder / "model.safetensors").write_bytes(bytes(999))
    write_manifest(folder, Manifest(artifact="model", files=describe_files(folder)))
    assert "not the one that was registered" in _refusal(folder, digest)


@pytest.mark.parametrize("content", [b"", b"{", b'{"artifact": "model", "files": [{"path": "../x"}]}'])
def test_a_broken_manifest_is_refused(model: tuple[Path, str], content: bytes) -> None:
    (model[0] / "manifest.json").write_bytes(content)
    assert "can't be checked" in _refusal(*model)
