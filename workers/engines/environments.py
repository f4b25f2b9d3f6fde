"""Runner environments as engines use them: built by `eigenwerk env build NAME`, found here."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

_MARKER = "environment.json"


@dataclass(frozen=True)
class BuiltEnvironment:
    """One that is whole."""

    name: str
    python: Path
    #: sha256 of its lock file.
    digest: str

    def version_of(self, distribution: str) -> str | None:
        """Of what is installed in it, by the name of its folder of metadata."""
        found = sorted(self.python.parents[1].glob(f"lib/python3*/site-packages/{distribution}-*.dist-info"))
        return found[0].name.removesuffix(".dist-info").rpartition("-")[2] if found else None


def built_environment(name: str) -> BuiltEnvironment | None:
    """The one that was built last, below EIGENWERK_ENVIRONMENTS_DIR or $EIGENWERK_HOME/environments; None before."""
    chosen, home = os.environ.get("EIGENWERK_ENVIRONMENTS_DIR"), os.environ.get("EIGENWERK_HOME")
    base = Path(home) if home else Path.home() / ".local" / "share" / "eigenwerk"
    root = Path(chosen) if chosen else base / "environments"
    try:
        markers = list(root.glob(f"{name}-{'[0-9a-f]' * 12}/{_MARKER}"))
        newest = max(markers, key=lambda path: path.stat().st_mtime)
        digest = str(json.loads(newest.read_text(encoding="utf-8"))["lock_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return BuiltEnvironment(name, newest.parent / "bin" / "python", digest)
