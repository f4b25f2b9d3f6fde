"""A tiny base model and a small data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.models import build_tiny_encoder, labelled_texts
from tests.workers.training.attempts import Attempt, write_csv


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2 layers with dropout, without a head."""
    return build_tiny_encoder(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """130 labelled rows: with a quarter held out, 98 train, which is 7 steps of 16 per epoch."""
    path = tmp_path_factory.mktemp("data") / "texts.csv"
    write_csv(path, labelled_texts(130))
    return path


@pytest.fixture
def attempt(tmp_path: Path, tiny_bert: Path, dataset: Path) -> Callable[[str], Attempt]:
    """Makes an attempt with folders of its own."""
    return lambda name: Attempt(tmp_path / name, tiny_bert, dataset)
