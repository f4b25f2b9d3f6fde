"""Runs `finetune-llm` in this process on tiny models, breaks it off, and keeps what it emitted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobspecs.events import ChildEvent, StageEvent
from jobspecs.manifest import Manifest, ModelOrigin
from jobspecs.registry import parse_spec
from tests.workers.training.attempts import Killed, measured
from workers.run.context import RunContext
from workers.runners.registry import RUNNERS

WORDS = ("dog", "cat", "bird", "tree", "house", "river", "lamp", "road", "moon", "stone", "hat", "boat")
BASE = ModelOrigin(reference="admin/tiny-llm@1", digest="0" * 64)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def conversations(rows: int = 22) -> list[dict[str, Any]]:
    """Conversations of lengths that differ."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"{row} {WORDS[row % 12]}?"},
                {"role": "assistant", "content": f"{WORDS[(row + 1) % 12]} " * (1 + row % 4)},
            ]
        }
        for row in range(rows)
    ]


def preferences(rows: int = 22) -> list[dict[str, Any]]:
    return [
        {"prompt": f"{row} {WORDS[row % 12]}?", "chosen": f"yes, {WORDS[row % 12]}", "rejected": "no " * (1 + row % 4)}
        for row in range(rows)
    ]


class LlmAttempt:
    """One attempt with folders of its own, and what it emitted."""

    def __init__(self, root: Path, model: Path, data: Path, models: Mapping[str, Path] | None = None) -> None:
        self.root, self.model, self.data, self.models = root, model, data, dict(models or {})
        self.events: list[ChildEvent] = []

    @property
    def out(self) -> Path:
        return self.root / "out"

    def run(self, resume_from: Path | None = None, kill_after_step: int | None = None, **changes: Any) -> Manifest:
        """Runs the runner. Steps are counted within this attempt; 0 means before the first."""
        self.out.mkdir(parents=True, exist_ok=True)
        questions = 0

        def stop_requested() -> bool:
            nonlocal questions
            if not any(isinstance(event, StageEvent) and event.stage == "train" for event in self.events):
                return False
            questions += 1
            if questions - 1 == kill_after_step:
                raise Killed
            return False

        role = "model.base" if self.models else "model"
        context = RunContext(
            spec=parse_spec(llm_document(**changes)),
            dataset_path=self.data,
            model_dir=self.model,
            output_dir=self.out,
            checkpoints_dir=self.root / "checkpoints",
            resume_from=resume_from,
            emit=self.events.append,
            stop_requested=stop_requested,
            models=self.models,
            origins={role: BASE},
        )
        return measured(context, RUNNERS["finetune-llm"](context))

    @property
    def newest_checkpoint(self) -> Path:
        return max(path.parent for path in (self.root / "checkpoints").glob("*/manifest.json"))


def llm_document(**changes: Any) -> dict[str, Any]:
    """20 rows train in steps of 4, for two epochs: 10 steps. `changes` to sections are merged, others replace."""
    sections: dict[str, dict[str, Any]] = {
        "training": {
            "epochs": 2,
            "batch_size": 4,
            "learning_rate": 1e-2,
            "max_length": 64,
            "checkpoint_every_steps": 1,
        },
        "generation": {"examples": 1, "max_new_tokens": 3},
        "lora": {"rank": 2, "dropout": 0.1},
    }
    merged = {name: {**section, **changes.pop(name, {})} for name, section in sections.items()}
    return {"kind": "finetune-llm", "name": "tiny", "model": "tiny-llm@1", "dataset": "rows@1", **merged, **changes}
