"""Tiny language models and small data sets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.language_models import build_tiny_llm
from tests.workers.training.llm.attempts import conversations, preferences, write_jsonl


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 2 layers with dropout in its attention."""
    return build_tiny_llm(tmp_path_factory.mktemp("llm") / "llama", dropout=0.1)


@pytest.fixture(scope="session")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("data") / "chats.jsonl", conversations())


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("data") / "pairs.jsonl", preferences())


@pytest.fixture(scope="session")
def stories() -> Path:
    """A real Llama of 260,000 parameters that writes little stories."""
    folder = Path(os.environ.get("EIGENWERK_DATA_DIR", "")) / ".." / "models" / "stories260k"
    if not folder.is_dir():
        pytest.skip("stories260k is not here: set EIGENWERK_DATA_DIR")
    return folder.resolve()
