"""The version of the code that makes a job's result, by its sources: also what was changed since a release counts."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

#: What it is called among the versions of a manifest.
CODE = "eigenwerk-source"
_ROOT = Path(__file__).parents[2]
#: Folders whose code decides what is made of given inputs.
_DECIDING = (
    *("jobspecs", "corpus", "storage/tabular", "workers/engines/embedded/generation", "workers/engines/embedded/tasks"),
    *(
        f"workers/{room}"
        for room in ("runners", "scoring", "predicting", "merging", "training", "judging", "local_models", "run")
    ),
)


@cache
def code_digest() -> str:
    """sha256 over all these sources, `sha256:…`. Reads 2 MB, once in a process."""
    digest = hashlib.sha256()
    for folder in _DECIDING:
        for path in sorted((_ROOT / folder).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(_ROOT).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return f"sha256:{digest.hexdigest()}"
