"""The tiny base model of the training tests."""

from __future__ import annotations

from tests.workers.training.conftest import _one_thread, tiny_bert

__all__ = ["_one_thread", "tiny_bert"]
