"""A check beside a model's own programs, which may be anybody's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corpus.checks import confined
from corpus.checks.confined import check_confined
from corpus.checks.inspection import check_data
from corpus.checks.reader import Reader
from corpus.checks.rows import CheckedFile
from corpus.confinement.confinement import Confinement
from corpus.confinement.process import Overran
from jobspecs.registry import parse_spec
from storage.tabular import detect_format
from tests.chat_models import CHATML, write_chat_model

SPEC = parse_spec({"kind": "finetune-llm", "name": "tuned", "model": "base", "dataset": "chats"})
ENDLESS = "{% for n in range(9999) %}" * 3 + "{% endfor %}" * 3


@pytest.fixture
def chats(tmp_path: Path) -> CheckedFile:
    path = tmp_path / "chats.jsonl"
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    path.write_text("\n".join(json.dumps({"messages": turns, "n": n}) for n in range(20)), encoding="utf-8")
    return CheckedFile(path, detect_format(path.name), "chats.jsonl")


def test_a_confined_check_finds_what_any_check_finds(
    confinement: Confinement, chats: CheckedFile, tmp_path: Path
) -> None:
    folder = write_chat_model(tmp_path / "model", CHATML)
    report = check_confined(confinement, SPEC, chats, folder, seconds=30)
    assert report == check_data(SPEC, chats, Reader.load(folder))
    assert report is not None and report.complete and report.tokens is not None


def test_a_template_without_end_is_stopped(
    confinement: Confinement, chats: CheckedFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confined, "_LOAD_S", 2)
    with pytest.raises(Overran, match="time"):
        check_confined(confinement, SPEC, chats, write_chat_model(tmp_path / "model", ENDLESS), seconds=1)


def test_what_is_wrong_with_the_model_is_in_the_report_as_ever(
    confinement: Confinement, chats: CheckedFile, tmp_path: Path
) -> None:
    folder = write_chat_model(tmp_path / "model", None, eos=None, special=("<pad>",))
    report = check_confined(confinement, SPEC, chats, folder, seconds=30)
    assert report is not None and "neither a chat template" in report.problems[0].message
