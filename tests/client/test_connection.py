from __future__ import annotations

import json
from pathlib import Path

import pytest

from eigenwerk import EigenwerkError, find_connection


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "platform.json").write_text(json.dumps({"url": "http://127.0.0.1:8480", "token": "ew_local", "pid": 1}))
    return tmp_path


def test_the_environment_names_the_platform(home: Path) -> None:
    found = find_connection(
        {"EIGENWERK_URL": "https://e.test/", "EIGENWERK_TOKEN": "ew_x", "EIGENWERK_HOME": str(home)}
    )
    assert (found.url, found.token) == ("https://e.test", "ew_x")
    assert "ew_x" not in repr(found)


def test_the_platform_of_this_machine_is_found_without_the_environment(home: Path) -> None:
    found = find_connection({"EIGENWERK_HOME": str(home)})
    assert (found.url, found.token) == ("http://127.0.0.1:8480", "ew_local")


def test_the_token_of_this_machine_is_never_sent_to_another_address(home: Path) -> None:
    with pytest.raises(EigenwerkError, match="EIGENWERK_TOKEN"):
        find_connection({"EIGENWERK_URL": "https://e.test", "EIGENWERK_HOME": str(home)})
    local = find_connection({"EIGENWERK_URL": "http://127.0.0.1:8480", "EIGENWERK_HOME": str(home)})
    assert local.token == "ew_local"


def test_without_any_platform_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(EigenwerkError, match="eigenwerk up"):
        find_connection({"EIGENWERK_HOME": str(tmp_path)})


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "platform.json").write_text("{")
    with pytest.raises(EigenwerkError, match="damaged"):
        find_connection({"EIGENWERK_HOME": str(tmp_path)})
