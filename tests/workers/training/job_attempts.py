"""Runs the runner of any kind in this process, breaks it off, and keeps what it emitted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobspecs.dialect import named_columns
from jobspecs.events import ChildEvent, StageEvent
from jobspecs.kinds.base import BASE_ROLE
from jobspecs.manifest import Manifest, ModelOrigin
from jobspecs.registry import parse_spec
from tests.workers.training.attempts import Killed, measured
from workers.run.context import RunContext
from workers.runners.registry import RUNNERS


class JobAttempt:
    """One attempt with folders of its own. `models`: role -> folder."""

    def __init__(self, root: Path, document: Mapping[str, Any], data: Path, models: Mapping[str, Path]) -> None:
        self.root, self.document, self.data, self.models = root, document, data, models
        self.events: list[ChildEvent] = []
        self.held_out: Path | None = None
        self.test: Path | None = None

    def run(
        self,
        resume_from: Path | None = None,
        *,
        stop_after: int | None = None,
        kill_after: int | None = None,
        stage: str = "train",
        header: tuple[str, ...] | None = None,
    ) -> Manifest:
        """Runs the runner; it is stopped or killed when it asks for the n-th time, from 0, in `stage`."""
        (self.root / "out").mkdir(parents=True, exist_ok=True)
        questions = 0

        def stop_requested() -> bool:
            nonlocal questions
            if not any(isinstance(event, StageEvent) and event.stage == stage for event in self.events):
                return False
            asked, questions = questions, questions + 1
            if asked == kill_after:
                raise Killed
            return stop_after is not None and asked >= stop_after

        context = RunContext(
            spec=parse_spec(dict(self.document)),
            dataset_path=self.data,
            dataset_dialect=named_columns(header),
            held_out_path=self.held_out,
            test_path=self.test,
            model_dir=self.models.get(BASE_ROLE),
            models=self.models,
            origins={role: ModelOrigin(reference=f"tests/{role}@1", digest="0" * 64) for role in self.models},
            output_dir=self.root / "out",
            checkpoints_dir=self.root / "checkpoints",
            resume_from=resume_from,
            emit=self.events.append,
            stop_requested=stop_requested,
        )
        return measured(context, RUNNERS[str(self.document["kind"])](context))

    @property
    def output(self) -> Path:
        return self.root / "out"

    @property
    def newest_checkpoint(self) -> Path:
        return max(path.parent for path in (self.root / "checkpoints").glob("*/manifest.json"))
