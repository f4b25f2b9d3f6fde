"""Runs the runner in this process, breaks it off, and keeps what it emitted."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from jobspecs.dialect import named_columns
from jobspecs.events import ChildEvent, StageEvent
from jobspecs.figures import figures_of_kind
from jobspecs.manifest import DatasetOrigin, Manifest
from jobspecs.registry import parse_spec
from workers.run.context import RunContext
from workers.runners.registry import RUNNERS


def write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("headline", "quality"), *rows])


class Killed(BaseException):
    """Stands for kill -9: nothing catches it and nothing is tidied up."""


class Attempt:
    """One attempt with folders of its own, and what it emitted."""

    def __init__(self, root: Path, model: Path, data: Path) -> None:
        self.root, self.model, self.data = root, model, data
        self.header: tuple[str, ...] | None = None
        self.held_out: Path | None = None
        self.test: Path | None = None
        self.datasets: dict[str, DatasetOrigin] = {}
        self.events: list[ChildEvent] = []

    def run(
        self,
        resume_from: Path | None = None,
        stop_after_step: int | None = None,
        kill_after_step: int | None = None,
        **changes: Any,
    ) -> Manifest:
        """Runs the runner. Steps are counted within this attempt; 0 means before the first."""
        (self.root / "out").mkdir(parents=True, exist_ok=True)
        questions = 0

        def stop_requested() -> bool:
            nonlocal questions
            if not any(isinstance(event, StageEvent) and event.stage == "train" for event in self.events):
                return False
            steps_done = questions
            questions += 1
            if steps_done == kill_after_step:
                raise Killed
            return stop_after_step is not None and steps_done >= stop_after_step

        context = RunContext(
            spec=parse_spec(self.document(**changes)),
            dataset_path=self.data,
            dataset_dialect=named_columns(self.header),
            held_out_path=self.held_out,
            test_path=self.test,
            datasets=self.datasets,
            model_dir=self.model,
            output_dir=self.root / "out",
            checkpoints_dir=self.root / "checkpoints",
            resume_from=resume_from,
            emit=self.events.append,
            stop_requested=stop_requested,
        )
        return measured(context, RUNNERS[context.spec.kind](context))

    def document(self, **changes: Any) -> dict[str, Any]:
        """The spec that is run."""
        return spec_document(**changes)

    @property
    def newest_checkpoint(self) -> Path:
        return max(path.parent for path in (self.root / "checkpoints").glob("*/manifest.json"))


def measured(context: RunContext, manifest: Manifest) -> Manifest:
    """The manifest: its figures are those that conditions may name, of whatever kind the job is."""
    assert manifest.metrics.keys() <= figures_of_kind(context.spec)
    return manifest


def spec_document(**changes: Any) -> dict[str, Any]:
    """A spec that trains in about a second; `changes` to `training` are merged, others replace."""
    training = {
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 2e-3,
        "max_length": 32,
        "checkpoint_every_steps": 1,
        **changes.pop("training", {}),
    }
    return {
        "kind": "train-classifier",
        "name": "tiny",
        "model": "tiny-bert@1",
        "dataset": "texts@1",
        "text": "headline",
        "label": "quality",
        "training": training,
        **changes,
    }
