"""Tiny language models and small data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.language_models import build_tiny_llm
from tests.weights import stories260k
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
    return stories260k()
