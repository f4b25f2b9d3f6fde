"""The whole way, as a user types it: the platform as processes, and the CLI as processes, on a tiny real model."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.embedded.stack import EmbeddedServices
from jobspecs.manifest import read_manifest, sha256_of
from tests.models import build_tiny_encoder, labelled_texts

SPEC = """\
kind: train-classifier
name: mood
model: tiny@1
dataset: reports@1
text: text
label: mood
training: {epochs: 8, learning_rate: 1.0e-2, max_length: 32}
"""


@dataclass(frozen=True)
class Shell:
    """A user's shell on the machine where the platform runs."""

    folder: Path
    environment: dict[str, str]

    def eigenwerk(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "eigenwerk.cli", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.eigenwerk(*words, "--json").stdout)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("journey")
    root = Path(__file__).parents[2]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    environment = {
        **kept,
        "PYTHONPATH": str(root),
        "EIGENWERK_HOME": str(folder / "home"),
        "EIGENWERK_HOST_NAME": "laptop",
    }
    ready = folder / "home" / "platform.json"
    with (folder / "up.log").open("w") as log:
        platform = subprocess.Popen(
            [sys.executable, "-m", "eigenwerk.cli", "up"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_for(ready, platform, folder / "up.log")
        children = psutil.Process(platform.pid).children(recursive=True)
        yield Shell(folder, environment)
    finally:
        platform.send_signal(signal.SIGTERM)
        ended = platform.wait(timeout=90)
        EmbeddedServices(folder / "home").remove_data()
    assert ended == 0
    assert not any(child.is_running() for child in children)


def _wait_for(ready: Path, platform: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1200):
        if ready.exists():
            return
        if platform.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(f"the platform did not get ready:\n{log.read_text()}")


def test_a_newcomer_gets_from_a_table_to_a_served_and_downloaded_model(shell: Shell) -> None:
    build_tiny_encoder(shell.folder / "tiny")
    with (shell.folder / "reports.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "mood"])
        writer.writerows(labelled_texts(600))
    (shell.folder / "spec.yaml").write_text(SPEC)

    assert "tiny@1" in shell.eigenwerk("models", "import", "tiny", "--name", "tiny").stdout
    assert "600 rows" in shell.eigenwerk("datasets", "push", "reports.csv").stdout

    watched = shell.eigenwerk("submit", "spec.yaml", "--watch").stdout
    assert "train" in watched
    assert "loss" in watched
    assert "mood@1" in watched

    (job,) = shell.json("jobs")
    shown = shell.json("show", job["id"][:8])
    assert shown["state"] == "succeeded"
    metrics = shown["result"]["metrics"]
    assert metrics["validation/accuracy"] > metrics["baseline/majority_accuracy"]
    assert metrics["validation/accuracy_low"] <= metrics["validation/accuracy"] <= metrics["validation/accuracy_high"]

    shell.eigenwerk("deploy", "mood")
    said = shell.eigenwerk("classify", "mood", "spring garden music friend", "storm leak outage breach").stdout
    assert [line.split()[0] for line in said.splitlines()] == ["good", "bad"]

    shell.eigenwerk("download", "mood@1", "copy")
    manifest = read_manifest(shell.folder / "copy")
    assert {file.path for file in manifest.files} >= {"config.json", "model.safetensors", "tokenizer.json"}
    for file in manifest.files:
        assert sha256_of(shell.folder / "copy" / file.path) == file.sha256
    assert shell.eigenwerk("logs", job["id"]).stdout is not None
    shell.eigenwerk("undeploy", "mood")


def test_a_mistake_is_refused_with_its_place_and_queues_nothing(shell: Shell) -> None:
    before = len(shell.json("jobs"))
    (shell.folder / "ragged.csv").write_text("text,mood\na,good\nb,bad,extra\n")
    assert "row 2" in shell.eigenwerk("datasets", "push", "ragged.csv", code=1).stderr
    (shell.folder / "typo.yaml").write_text(SPEC.replace("epochs", "epoch"))
    refused = shell.eigenwerk("submit", "typo.yaml", code=1).stderr
    assert "training.epoch" in refused
    assert refused.count("\n") == 1
    assert len(shell.json("jobs")) == before


def test_a_cancelled_job_ends_and_says_so(shell: Shell) -> None:
    long = SPEC.replace("epochs: 8", "epochs: 900").replace("name: mood", "name: endless")
    (shell.folder / "long.yaml").write_text(long)
    job = shell.json("submit", "long.yaml")
    shell.eigenwerk("cancel", job["id"])
    # Following it ends when the job does; a job that did not succeed makes that exit 1.
    shell.eigenwerk("logs", "-f", job["id"], code=1)
    assert shell.json("show", job["id"])["state"] == "cancelled"
