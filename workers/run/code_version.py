"""The version of the code that makes a job's result, by its sources: also what was changed since a release counts."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

#: What it is called among the versions of a manifest.
CODE = "eigenwerk-code"
_ROOT = Path(__file__).parents[2]
#: Folders whose code decides what is made of given inputs.
_DECIDING = (
    *("jobspecs", "corpus", "storage/tabular"),
    *(f"workers/{room}" for room in ("runners", "scoring", "training", "judging", "local_models", "run")),
)


@cache
def code_version() -> str:
    """The first 16 hex digits of a sha256 over all sources. Reads 2 MB, once."""
    digest = hashlib.sha256()
    for folder in _DECIDING:
        for path in sorted((_ROOT / folder).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(_ROOT).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()[:16]
