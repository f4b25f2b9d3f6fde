from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pydantic import ValidationError

from jobspecs.manifest import Manifest, ManifestFile, describe_files, read_manifest, write_manifest


def file(path: str) -> ManifestFile:
    return ManifestFile(path=path, bytes=3, sha256="0" * 64)


@pytest.mark.parametrize("path", ["../up", "/etc/passwd", "a/../b", "a\\b", "", "./a", "a//b", "a\n", "a\0b"])
def test_a_path_that_leaves_the_artifact_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        file(path)


def test_files_are_described_with_size_and_sha256_but_not_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "weights.safetensors").write_bytes(b"abc")
    write_manifest(tmp_path, Manifest(artifact="model", files=describe_files(tmp_path)))
    (found,) = describe_files(tmp_path)
    assert found == ManifestFile(path="deep/weights.safetensors", bytes=3, sha256=hashlib.sha256(b"abc").hexdigest())
    assert read_manifest(tmp_path).files == (found,)


def test_a_link_in_an_artifact_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="link"):
        describe_files(tmp_path)


def test_an_artifact_without_a_manifest_is_incomplete(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_manifest(tmp_path)


def test_the_digest_depends_on_the_files_only() -> None:
    one = Manifest(artifact="model", files=(file("a"), file("b")), metrics={"accuracy": 0.5})
    same = Manifest(artifact="model", files=(file("b"), file("a")), metrics={"accuracy": 0.9})
    other = Manifest(artifact="model", files=(file("a"), file("c")))
    assert one.digest == same.digest != other.digest
