"""Lets clients of others, unmodified, work with a running platform: `make conformance`.

Each line of versions.txt is a client: an environment of its own is built below .conformance/ when it isn't there, and
the client's program runs in it against a platform that vanishes afterwards. It exits with 1 when a step failed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deploy.demo.temporary_platform import temporary_platform
from eigenwerk import Connection

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".conformance"
#: Package -> the program that works with it.
PROGRAMS = {"huggingface_hub": HERE / "hub_client.py"}
_LINE = re.compile(r"([A-Za-z0-9_.-]+)==([A-Za-z0-9_.]+)")


def clients() -> list[tuple[str, str]]:
    """Package and version of each. Raises ValueError for a line that names none."""
    found = []
    for line in (HERE / "versions.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            match = _LINE.fullmatch(line.strip())
            if match is None or match[1] not in PROGRAMS:
                raise ValueError(f"versions.txt: {line!r} is no client==version of {', '.join(PROGRAMS)}")
            found.append((match[1], match[2]))
    return found


def environment(package: str, version: str) -> Path:
    """The Python of the client's environment, which is built unless it is there."""
    folder = ENVIRONMENTS / f"{package}-{version}"
    python, finished = folder / "bin" / "python", folder / ".finished"
    if not finished.exists():
        print(f"building {folder.relative_to(ENVIRONMENTS.parent)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, f"{package}=={version}"], check=True)
        finished.touch()
    return python


def work(python: Path, program: Path, connection: Connection, cache: Path) -> list[dict[str, object]]:
    """What the program says of its steps."""
    variables = {
        "HF_ENDPOINT": f"{connection.url}/hf",
        "HF_TOKEN": connection.token or "",
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    with subprocess.Popen(
        [str(python), str(program)], env={**inherited, **variables}, stdout=subprocess.PIPE, text=True
    ) as process:
        steps = []
        for line in process.stdout or ():
            steps.append(json.loads(line))
            print(f"  {steps[-1]['seconds']:6.2f} s  {steps[-1]['step']}: {steps[-1]['outcome']}", flush=True)
    if process.returncode not in (0, 1):
        steps.append({"step": "the program", "outcome": f"ended with exit code {process.returncode}", "seconds": 0.0})
    return steps


def main() -> int:
    pythons = {(package, version): environment(package, version) for package, version in clients()}
    failed = 0
    with temporary_platform() as (connection, _), tempfile.TemporaryDirectory() as cache:
        for (package, version), python in pythons.items():
            print(f"{package} {version}", flush=True)
            began = time.monotonic()
            steps = work(python, PROGRAMS[package], connection, Path(cache) / f"{package}-{version}")
            wrong = [step for step in steps if step["outcome"] != "ok"]
            failed += len(wrong)
            print(f"  {len(steps) - len(wrong)} of {len(steps)} steps in {time.monotonic() - began:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
