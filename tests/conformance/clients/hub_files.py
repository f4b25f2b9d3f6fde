"""What one version of huggingface_hub does with a running platform: it pushes and pulls, and tells of each step.

HF_ENDPOINT and HF_TOKEN tell where. Steps run in this order, each on what those before have left.
"""

from __future__ import annotations

import hashlib
import json
import random
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.utils import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.conformance.steps import run, step

#: Bytes of the largest tensor: weights go in several parts where parts are sent.
LARGE_BYTES = 36_000_000
API = HfApi()
NAME = f"{API.whoami()['name']}/hub-{huggingface_hub.__version__.replace('.', '-')}-{random.randrange(16**6):06x}"


def weights(seed: int, tensors: int = 1, bytes_each: int = 4000) -> bytes:
    """A safetensors file of random numbers."""
    generator = random.Random(seed)
    header = {
        f"layer.{n}": {
            "dtype": "F32",
            "shape": [bytes_each // 4],
            "data_offsets": [n * bytes_each, (n + 1) * bytes_each],
        }
        for n in range(tensors)
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + generator.randbytes(tensors * bytes_each)


def model_folder(folder: Path, seed: int, bytes_each: int = 4000, tensors: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    (folder / "README.md").write_text(f"model {seed}\n")
    (folder / "model.safetensors").write_bytes(weights(seed, tensors, bytes_each))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text("{}")
    return folder


def sums(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and ".cache" not in path.parts
    }


def pulled(folder: Path, revision: str | None = None) -> dict[str, str]:
    target = folder / f"pulled-{random.randrange(16**8)}"
    return sums(Path(snapshot_download(NAME, revision=revision, local_dir=target)))


def versions() -> list[str]:
    return [commit.title for commit in API.list_repo_commits(NAME)]


@step("create_repo, upload_folder, snapshot_download")
def a_folder_is_pushed_and_pulled(folder: Path) -> None:
    source = model_folder(folder / "one", 1)
    API.create_repo(NAME, private=True)
    API.create_repo(NAME, private=True, exist_ok=True)
    done = API.upload_folder(repo_id=NAME, folder_path=source)
    assert versions() == ["version 1"], versions()
    assert API.model_info(NAME).sha == done.oid
    assert pulled(folder) == sums(source)


@step("upload_file, hf_hub_download")
def a_file_is_pushed_and_the_others_stay(folder: Path) -> None:
    API.upload_file(repo_id=NAME, path_in_repo="README.md", path_or_fileobj=b"changed\n")
    assert versions() == ["version 2", "version 1"], versions()
    path = hf_hub_download(NAME, "README.md", cache_dir=folder / "cache")
    assert Path(path).read_bytes() == b"changed\n"
    assert pulled(folder, "1") == sums(folder / "one")


@step("upload_folder, in parts or by Xet")
def large_weights_are_pushed_whole(folder: Path) -> None:
    source = model_folder(folder / "large", 3, LARGE_BYTES // 2, 2)
    API.upload_folder(repo_id=NAME, folder_path=source)
    assert versions()[0] == "version 3", versions()
    assert pulled(folder) == sums(source)


@step("upload_folder")
def the_same_again_is_no_new_version(folder: Path) -> None:
    API.upload_folder(repo_id=NAME, folder_path=folder / "large")
    assert versions()[0] == "version 3", versions()


@step("preupload_lfs_files, create_commit")
def several_commits_are_one_version(folder: Path) -> None:
    source = model_folder(folder / "parts", 4)
    files = {path.relative_to(source).as_posix(): path for path in source.rglob("*") if path.is_file()}
    additions = [CommitOperationAdd(name, path) for name, path in sorted(files.items())]
    API.preupload_lfs_files(NAME, additions=additions)
    for number in range(0, len(additions), 2):
        API.create_commit(NAME, additions[number : number + 2], commit_message=f"part {number}")
    assert versions()[0] == "version 4", versions()
    assert pulled(folder) == sums(source)


@step("delete_file, delete_folder")
def files_are_deleted(folder: Path) -> None:
    API.delete_file("README.md", NAME)
    API.delete_folder("1_Pooling", NAME)
    assert set(API.list_repo_files(NAME)) == {"config.json", "model.safetensors"}, API.list_repo_files(NAME)


@step("hf upload, hf download")
def the_command_line_pushes_and_pulls(folder: Path) -> None:
    program = Path(sys.executable).parent / (
        "hf" if (Path(sys.executable).parent / "hf").exists() else "huggingface-cli"
    )
    source = model_folder(folder / "cli", 6)
    for arguments in (["upload", NAME, str(source), "."], ["download", NAME, "--local-dir", str(folder / "got")]):
        done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-1500:]
    assert sums(folder / "got") == sums(source)


@step("upload_file")
def pickles_code_and_tricks_are_refused(folder: Path) -> None:
    before = versions()
    for name, content in (
        ("pytorch_model.bin", b"\x80\x04pickle"),
        ("modeling.py", b"print()"),
        ("../escape.json", b"{}"),
        ("config.json", b'{"auto_map": {"AutoModel": "modeling.Evil"}}'),
        ("model.safetensors", b"no safetensors at all"),
        ("manifest.json", b"{}"),
    ):
        try:
            API.upload_file(repo_id=NAME, path_in_repo=name, path_or_fileobj=content)
        except (HfHubHTTPError, ValueError):
            continue
        raise AssertionError(f"{name} was taken")
    assert versions() == before


@step("model_info, hf_hub_download")
def refusals_have_their_kinds(folder: Path) -> None:
    asked: dict[type[Exception], Callable[[], object]] = {
        RepositoryNotFoundError: lambda: API.model_info(NAME + "x"),
        RevisionNotFoundError: lambda: API.model_info(NAME, revision="nothing"),
        EntryNotFoundError: lambda: hf_hub_download(NAME, "nothing.json", cache_dir=folder / "cache"),
    }
    for kind, ask in asked.items():
        try:
            ask()
        except kind:
            continue
        raise AssertionError(f"no {kind.__name__}")


@step('upload_file(repo_type="dataset")')
def a_data_set_is_pushed_and_pulled(folder: Path) -> None:
    rows = b"text,label\n" + b"".join(b"row %d,%d\n" % (n, n % 2) for n in range(50))
    API.create_repo(NAME, repo_type="dataset")
    API.upload_file(repo_id=NAME, repo_type="dataset", path_in_repo="rows.csv", path_or_fileobj=rows)
    path = hf_hub_download(NAME, "rows.csv", repo_type="dataset", cache_dir=folder / "cache")
    assert Path(path).read_bytes() == rows
    assert API.dataset_info(NAME).id == NAME


@step("delete_repo")
def a_repository_is_deleted(folder: Path) -> None:
    API.delete_repo(NAME)
    API.delete_repo(NAME, repo_type="dataset")
    assert not API.repo_exists(NAME)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        run(Path(name))
