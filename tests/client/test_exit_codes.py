"""One rule for every command: 2 when it was called wrongly, 1 when something refused or failed, 0 when it is done."""

from __future__ import annotations

import errno
import os
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from deploy.embedded.processes import free_port
from eigenwerk.cli.datasets import commands as datasets
from eigenwerk.cli.datasets import pushing
from eigenwerk.files.transfers import Progress, ignore_progress
from eigenwerk.http import transport
from tests.client.every_command import CALLS
from tests.client.stub import StubPlatform
from tests.client.test_cli import Run, arguments_of, commands

__all__ = ["arguments_of"]

#: Groups, which show their help when they are called alone.
LEAVES = {path: command for path, command in commands() if not hasattr(command, "commands")}


def words_of(text: str) -> str:
    """The one line of an error."""
    assert text.startswith("error: ") and text.count("\n") == 1, text
    for word in ("Errno", "Traceback", "NoneType"):
        assert word not in text
    return text


@pytest.mark.parametrize("path", LEAVES)
def test_an_unknown_option_and_a_missing_argument_are_wrong_usage(path: str, run: Run) -> None:
    outcome = run(*path.split(), "--no-such-option")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--no-such-option" in words_of(outcome.err)
    if any(parameter.required for parameter in LEAVES[path].params):
        outcome = run(*path.split())
        assert (outcome.code, outcome.out) == (2, "")
        assert f"eigenwerk {path} --help" in words_of(outcome.err)


@pytest.mark.parametrize(
    "arguments",
    [["push"], ["push", "--split", "foo"], ["push", "a.csv", "--split", "train=b.csv"], ["pull", "foo"]],
    ids=" ".join,
)
def test_files_and_references_that_say_nothing_are_wrong_usage(
    platform: StubPlatform, arguments: list[str], run: Run
) -> None:
    outcome = run("datasets", *arguments)
    assert (outcome.code, outcome.out, platform.requests) == (2, "", [])
    assert "Invalid value for" in words_of(outcome.err)


def test_the_bytes_of_all_files_are_shown_though_they_have_one_name(
    platform: StubPlatform, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals: list[int] = []

    def told(label: str, total_bytes: int) -> AbstractContextManager[Progress]:
        totals.append(total_bytes)
        return nullcontext(ignore_progress)

    monkeypatch.setattr(pushing, "transfer", told)
    for folder, size_bytes in (("x", 20), ("y", 40)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_bytes(b"a" * size_bytes)
    run("datasets", "push", "--split", f"train={tmp_path / 'x/a.csv'}", "--split", f"test={tmp_path / 'y/a.csv'}")
    assert totals == [60]


@pytest.mark.parametrize("path", CALLS)
def test_a_platform_that_does_not_answer_is_a_failure(
    path: str, run: Run, arguments_of: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EIGENWERK_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("EIGENWERK_TOKEN", "ew_test")
    monkeypatch.setattr(transport, "RETRY_DELAYS_S", ())
    outcome = run(*arguments_of(path))
    assert (outcome.code, outcome.out) == (1, "")
    assert "Nothing answers at" in words_of(outcome.err)


@pytest.mark.parametrize("path", [path for path in CALLS if {"SPEC", "CSV", "MODEL"} & {*CALLS[path]}])
def test_a_file_that_cannot_be_read_is_one_line_in_words(
    platform: StubPlatform, path: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "absent", tmp_path / "empty"):
        outcome = run(*(str(wrong) if word in ("SPEC", "CSV", "MODEL") else word for word in CALLS[path]))
        assert (outcome.code, outcome.out) == (1, "")
        assert str(wrong) in words_of(outcome.err)
    assert not platform.requests


@pytest.mark.parametrize("command", [["classify", "n"], ["embed", "n"], ["rerank", "n", "query"]])
def test_a_file_of_texts_that_cannot_be_read_says_why(
    platform: StubPlatform, command: list[str], run: Run, tmp_path: Path
) -> None:
    (tmp_path / "latin.txt").write_bytes(b"gr\xfc\xdfe")
    for name, words in {"nofile": "it does not exist", ".": "it is a folder", "latin.txt": "no text in UTF-8"}.items():
        outcome = run(*command, "--file", str(tmp_path / name))
        assert (outcome.code, outcome.out) == (1, "")
        assert words in words_of(outcome.err)
    outcome = run(*command)
    assert outcome.code == 2
    assert "--file FILE" in words_of(outcome.err)
    assert not platform.requests


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "you may not"),
        (errno.ENOSPC, "the disk is full; make room"),
        (errno.EROFS, "its disk can only be read"),
        (errno.EISDIR, "it is a folder"),
        (errno.ENXIO, os.strerror(errno.ENXIO)),
    ],
)
def test_whatever_the_system_refuses_is_one_line_in_words(
    number: int, words: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(number, os.strerror(number), "/somewhere/file")

    monkeypatch.setattr(datasets, "platform", refuse)
    outcome = run("datasets", "list")
    assert outcome.code == 1
    assert f"/somewhere/file can't be used: {words}" in words_of(outcome.err)


def test_a_full_disk_while_files_are_put_into_one_is_said_in_words(
    platform: StubPlatform, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("text\none\n")
    monkeypatch.setattr(tarfile, "open", full)
    outcome = run("datasets", "push", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--name", "both")
    assert outcome.code == 1
    assert "the disk is full; make room" in words_of(outcome.err)
    assert not platform.requests
