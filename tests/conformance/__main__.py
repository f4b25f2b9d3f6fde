"""Lets clients of others, unmodified, work with a running platform: `make conformance`.

Each client has an environment of its own, by a lock file in environments/, that is built below .conformance/ when it
isn't there. Models are made and deployed by the command line; then each client's program runs, a line for each step.
It exits with 1 when a step failed. `--table` prints what the programs check, as docs/conformance.md has it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.demo.temporary_platform import temporary_platform
from deploy.environments.building import build, lock_of
from eigenwerk import Connection, connect
from tests.conformance.models import serve
from tests.conformance.table import HERE, table

ROOT = HERE.parents[1]
LOCKS = HERE / "environments"
#: As CI has them too: they are built once and kept.
ENVIRONMENTS = ROOT / ".conformance"


@dataclass(frozen=True)
class Client:
    """An environment and the program that runs in it. None: the platform's own, for our own client and bare routes."""

    environment: str | None
    program: str
    #: The program wants models that answer.
    asks_models: bool = True

    @property
    def name(self) -> str:
        return f"{self.program} in {self.environment}" if self.environment else self.program


CLIENTS = (
    Client("hub-0-36", "hub_files", asks_models=False),
    Client("hub-1-33", "hub_files", asks_models=False),
    Client("hub-2-4", "hub_files", asks_models=False),
    Client("openai", "openai_sdk"),
    Client("openai", "openai_responses"),
    Client("openai", "openai_training"),
    Client("hub-2-4", "hub_inference"),
    Client("hub-0-36", "hub_inference"),
    Client("text-generation", "text_generation_client"),
    Client("cohere", "cohere_sdk"),
    Client("langchain", "langchain_models"),
    Client("llama-index", "llama_index_models"),
    Client(None, "bare_routes"),
)


def python_of(environment: str | None) -> Path:
    """Builds the environment unless it is there."""
    if environment is None:
        return Path(sys.executable)
    if not lock_of(environment, LOCKS).folder(ENVIRONMENTS).exists():
        _say(f"building the environment {environment}")
    return build(environment, ENVIRONMENTS, LOCKS).path / "bin" / "python"


def work(python: Path, client: Client, connection: Connection, owner: str, cache: Path) -> list[dict[str, Any]]:
    """What the program says of its steps."""
    variables = {
        "CONFORMANCE_URL": connection.url,
        "CONFORMANCE_TOKEN": connection.token or "",
        "CONFORMANCE_OWNER": owner,
        "HF_ENDPOINT": f"{connection.url}/hf",
        "HF_TOKEN": connection.token or "",
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON", "OPENAI"))}
    command = [str(python), "-m", f"tests.conformance.clients.{client.program}"]
    with subprocess.Popen(
        command, cwd=ROOT, env={**inherited, **variables}, stdout=subprocess.PIPE, text=True
    ) as process:
        steps = []
        for line in process.stdout or ():
            steps.append(json.loads(line))
            _say(_told(client, steps[-1]))
    if process.returncode not in (0, 1) or not steps:
        steps.append({"step": "the program", "outcome": "failed"})
        _say(f"  FAILED {client.name}: the program ended with exit code {process.returncode}")
    return steps


def _told(client: Client, step: dict[str, Any]) -> str:
    line = f"  {step['seconds']:6.2f} s  {step['call']}: {step['step'].replace('_', ' ')}"
    if step["outcome"] == "ok":
        return line
    return f"{line}\n  FAILED {client.name}, {step['call']}: expected {step['expected']}, got {step['got']}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description="Clients of others at work.")
    parser.add_argument("only", nargs="*", help=f"programs: {', '.join(dict.fromkeys(c.program for c in CLIENTS))}")
    parser.add_argument("--table", action="store_true", help="print what the programs check, and end")
    arguments = parser.parse_args()
    if arguments.table:
        _say(table())
        return 0
    clients = [client for client in CLIENTS if not arguments.only or client.program in arguments.only]
    pythons = [python_of(client.environment) for client in clients]
    failed = 0
    with temporary_platform() as (connection, _), tempfile.TemporaryDirectory() as cache:
        if any(client.asks_models for client in clients):
            serve(connection, _say)
        with connect(connection) as platform:
            owner = platform.me().name
        for client, python in zip(clients, pythons, strict=True):
            _say(client.name)
            began = time.monotonic()
            steps = work(python, client, connection, owner, Path(cache) / f"{client.environment}-{client.program}")
            wrong = [step for step in steps if step["outcome"] != "ok"]
            failed += len(wrong)
            _say(f"  {len(steps) - len(wrong)} of {len(steps)} steps in {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
