"""`make mutation`: changes one line at a time and asks whether a test notices. `docs/mutation.md` judges what survived.

mutmut runs in a copy below `build/mutation/`, so nothing here is ever changed. It keeps its verdicts there: a second
run looks only at what is new. Survivors: `cd build/mutation/PART && mutmut show NAME`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PACKAGES = ("jobspecs", "scheduling", "storage", "corpus", "api", "workers", "eigenwerk", "deploy")
_IGNORED = shutil.ignore_patterns("__pycache__")


@dataclass(frozen=True)
class Part:
    """What is changed, as globs, and the tests that should notice."""

    changed: tuple[str, ...]
    tests: tuple[str, ...]


PARTS = {
    "scheduling": Part(("scheduling/*",), ("tests/scheduling",)),
    "jobspecs": Part(("jobspecs/*",), ("tests/jobspecs",)),
    "judging": Part(("workers/judging/*",), ("tests/workers/judging", "tests/workers/training/ranking/test_data.py")),
    "splits": Part(("corpus/splits.py",), ("tests/corpus/test_prompt_split.py", "tests/corpus/test_splits.py")),
    "repositories": Part(("storage/repositories/*",), ("tests/storage",)),
}


def prepare(name: str, part: Part, folder: Path) -> None:
    """Copies the sources and tests, and writes mutmut's settings."""
    for package in (*_PACKAGES, "tests"):
        shutil.copytree(ROOT / package, folder / package, dirs_exist_ok=True, ignore=_IGNORED)
    settings = {
        "source_paths": list(_PACKAGES),
        "only_mutate": list(part.changed),
        "pytest_add_cli_args": ["-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": list(part.tests),
        # torch is not fork-safe.
        "process_isolation": "forkserver",
    }
    own = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    (folder / "pyproject.toml").write_text("\n".join([own, "[tool.mutmut]", *lines, ""]), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutation", description=__doc__)
    parser.add_argument("part", choices=PARTS, help="what to change")
    parser.add_argument("--only", default="", help="names of mutants, such as scheduling.decisions*")
    parser.add_argument("--processes", type=int, default=1, help="mutants at the same time")
    arguments = parser.parse_args()
    folder = ROOT / "build" / "mutation" / arguments.part
    prepare(arguments.part, PARTS[arguments.part], folder)
    names = [arguments.only] if arguments.only else []
    mutmut = [sys.executable, "-m", "mutmut"]
    command = [*mutmut, "run", "--max-children", str(arguments.processes), *names]
    ran = subprocess.run(command, cwd=folder, check=False).returncode
    results = subprocess.run([*mutmut, "results"], cwd=folder, check=False, capture_output=True, text=True).stdout
    print("\n".join(line for line in results.splitlines() if "not checked" not in line))
    return ran


if __name__ == "__main__":
    sys.exit(main())
