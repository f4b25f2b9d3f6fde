"""`python -m deploy.environments build NAME | list`, with `--json` and `--root DIR`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from deploy.environments.building import CannotBuild, Environment, build, environments


def main(words: list[str]) -> int:
    """Exit code 0 when it is done, 1 when it can't be, 2 when it was called wrongly."""
    parser = argparse.ArgumentParser(prog="eigenwerk env")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (commands.add_parser("build"), commands.add_parser("list")):
        command.add_argument("--root", type=Path, required=True)
        command.add_argument("--json", action="store_true")
    commands.choices["build"].add_argument("name")
    asked = parser.parse_args(words)
    try:
        found = [build(asked.name, asked.root)] if asked.command == "build" else environments(asked.root)
    except CannotBuild as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    shown = [_shown(environment) for environment in found]
    if asked.json:
        sys.stdout.write(json.dumps(shown[0] if asked.command == "build" else shown) + "\n")
    else:
        for item in shown:
            sys.stdout.write(f"{item['name']}  {item['state']}  {item['lock_sha256'][:12]}  {item['path']}\n")
    return 0


def _shown(environment: Environment) -> dict[str, str]:
    return {
        "name": environment.name,
        "state": environment.state,
        "lock_sha256": environment.lock_sha256,
        "path": str(environment.path),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
