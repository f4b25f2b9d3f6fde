"""Runner environments: built once from a lock file, told apart by its digest."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from deploy.environments.building import LOCKS, CannotBuild, build, environments, lock_of
from workers.engines.environments import built_environment


def write_wheel(folder: Path) -> None:
    """The wheel `tiny` 1.0, which has one module."""
    folder.mkdir()
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "NAME = 'tiny'\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_wheel(tmp_path / "wheels")
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EIGENWERK_ENVIRONMENTS_DIR", str(tmp_path / "root"))
    folder = tmp_path / "locks"
    folder.mkdir()
    (folder / "little.txt").write_text("# one wheel\ntiny==1.0\n")
    return folder


def test_an_environment_is_built_once_has_what_its_lock_names_and_tells_its_digest(locks: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert [found.state for found in environments(root, locks)] == ["missing"]
    assert built_environment("little") is None
    made = build("little", root, locks)
    assert made.lock_sha256 == lock_of("little", locks).sha256
    found = built_environment("little")
    assert found is not None
    assert (found.digest, found.version_of("tiny")) == (made.lock_sha256, "1.0")
    code = [str(found.python), "-c", "import tiny; print(tiny.NAME)"]
    assert subprocess.run(code, capture_output=True, text=True, check=True).stdout == "tiny\n"
    marker = made.path / "environment.json"
    before = marker.stat().st_mtime_ns
    assert build("little", root, locks) == made
    assert marker.stat().st_mtime_ns == before, "it is not built again"
    (locks / "little.txt").write_text("tiny==1.0  # another digest\n")
    assert [found.state for found in environments(root, locks)] == ["outdated"]


def test_nothing_half_made_stays_when_what_the_lock_names_can_not_be_had(locks: Path, tmp_path: Path) -> None:
    (locks / "little.txt").write_text("tiny==9.9\n")
    with pytest.raises(CannotBuild, match=r"little\.txt"):
        build("little", tmp_path / "root", locks)
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize(
    "line", ["tiny>=1", "tiny", "-e .", "git+https://example.org/x", "--index-url=https://example.org"]
)
def test_a_lock_names_exact_versions_and_nothing_else(locks: Path, tmp_path: Path, line: str) -> None:
    (locks / "little.txt").write_text(f"{line}\n")
    with pytest.raises(CannotBuild, match="line 1"):
        build("little", tmp_path / "root", locks)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("name", ["no-such", "../locks/little", "Little", ""])
def test_an_unknown_environment_is_refused_with_those_that_there_are(locks: Path, name: str) -> None:
    with pytest.raises(CannotBuild, match="there are: little"):
        lock_of(name, locks)


def test_every_lock_of_ours_can_be_read() -> None:
    for path in LOCKS.glob("*.txt"):
        lock_of(path.stem).check()


def test_the_command_lists_them_for_programs() -> None:
    words = [sys.executable, "-m", "deploy.environments", "list", "--root", "/nonexistent", "--json"]
    listed = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    assert {"vllm-cpu", "transformers-4-51"} <= {item["name"] for item in listed}
    assert {item["state"] for item in listed} == {"missing"}
