"""What of a folder is sent as a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from eigenwerk.errors import EigenwerkError
from eigenwerk.files.model_folders import model_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "model.safetensors").write_bytes(b"weights")
    return made


@pytest.mark.parametrize("name", ["config.json", "more/config.json"])
def test_a_link_that_leads_out_of_the_folder_is_refused_with_its_target(folder: Path, name: str) -> None:
    (folder.parent / "more").mkdir()
    secret = folder.parent / "more" / "config.json"
    secret.write_text('{"key": "of somebody"}')
    link = folder / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(secret)
    with pytest.raises(EigenwerkError) as refused:
        model_files(folder)
    assert str(link) in refused.value.message
    assert str(secret) in refused.value.message


def test_a_linked_folder_is_not_searched(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder.parent / "elsewhere" / "config.json").write_text("{}")
    (folder / "inner").symlink_to(folder.parent / "elsewhere")
    assert model_files(folder) == [folder / "model.safetensors"]


def test_links_inside_the_folder_and_to_it_are_followed(folder: Path) -> None:
    (folder / "copy.safetensors").symlink_to("model.safetensors")
    seen = folder.parent / "seen"
    seen.symlink_to(folder)
    assert model_files(seen) == [seen / "copy.safetensors", seen / "model.safetensors"]


def _snapshot(cache: Path) -> Path:
    """A folder as hubs' clients keep it."""
    snapshot = cache / "models--acme--small" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "blobs").mkdir()
    (snapshot.parent.parent / "blobs" / "1f").write_bytes(b"weights")
    (snapshot / "model.safetensors").symlink_to("../../blobs/1f")
    return snapshot


def test_a_folder_of_a_hubs_cache_is_sent(tmp_path: Path) -> None:
    snapshot = _snapshot(tmp_path)
    assert model_files(snapshot) == [snapshot / "model.safetensors"]


def test_a_hubs_cache_whose_blobs_lie_elsewhere_is_refused(tmp_path: Path) -> None:
    snapshot = _snapshot(tmp_path)
    blobs = snapshot.parent.parent / "blobs"
    blobs.rename(tmp_path / "private")
    blobs.symlink_to(tmp_path / "private")
    with pytest.raises(EigenwerkError, match="outside of the folder"):
        model_files(snapshot)
