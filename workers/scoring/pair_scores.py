"""Scores pairs with a teacher, row after row, so that a run that was broken off goes on where it stopped.

A checkpoint is a folder `step-00004096` with the scores of so many rows from the first on, its manifest written last.
Rows are scored in windows of fixed size, each for itself: where a run was broken off changes no batch, and no score.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jobspecs.events import CheckpointEvent, ProgressEvent
from jobspecs.kinds.base import ADAPTER_BASE_SUFFIX
from jobspecs.kinds.score_pairs import TEACHER_ROLE, ScorePairs
from jobspecs.manifest import MANIFEST_NAME, Manifest, describe_files, read_manifest, sha256_of, write_manifest
from workers.local_models.adapters import is_adapter, load_adapter
from workers.local_models.base_model import invalid_model, load_causal_lm, read_json
from workers.local_models.ranking_model import Pair, Scores, load_reranker
from workers.run.context import RunContext, RunStopped
from workers.scoring.yes_no import YesNoModel
from workers.training.checkpoints import KEPT, UnusableCheckpoint

#: Rows scored together, sorted by length: enough for full batches, few enough that little is lost.
WINDOW_ROWS = 512
#: Seconds between checkpoints unless the spec counts rows.
_CHECKPOINT_EVERY_S = 60.0
_FILES = frozenset({"scores.safetensors", "state.json"})
_SCORES = "scores"


class Teacher(Protocol):
    """Whatever gives a pair of texts a score."""

    def score_pairs(
        self, pairs: list[Pair], *, raw: bool = False, after_batch: Callable[[int], None] = lambda done: None
    ) -> Scores:
        """Scores (N,), in the order of the pairs."""


@dataclass(frozen=True)
class Scored:
    """The scores (N,) of all rows, how many came from a checkpoint, and pairs per second of this attempt."""

    scores: Scores
    resumed_at: int
    pairs_per_s: float


def load_teacher(context: RunContext, spec: ScorePairs, device: torch.device) -> Teacher:
    """A cross-encoder, or a language model or adapter of one with the question. Raises RunFailed(invalid_model)."""
    folder = context.models[TEACHER_ROLE]
    if is_adapter(folder):
        base = context.models[TEACHER_ROLE + ADAPTER_BASE_SUFFIX]
        loaded = load_causal_lm(base)
        limit = min(spec.max_length, loaded.max_tokens)
        return YesNoModel(load_adapter(loaded.model, folder), base, spec.question, limit, device)
    architecture = str((read_json(folder / "config.json", required=True).get("architectures") or ["unknown"])[0])
    if architecture.endswith("ForSequenceClassification"):
        return load_reranker(folder, device, spec.max_length)
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        loaded = load_causal_lm(folder)
        return YesNoModel(loaded.model, folder, spec.question, min(spec.max_length, loaded.max_tokens), device)
    raise invalid_model(
        f"the teacher is a {architecture}; it must be a cross-encoder (text-ranking) or an LLM (text-generation)."
    )


def fingerprint(context: RunContext, spec: ScorePairs) -> str:
    """sha256 over all that decides the scores: a checkpoint continues only the run that wrote it."""
    settings = spec.model_dump_json(include={"pair", "activation", "question", "max_length"})
    models = [
        f"{role} {origin.digest}" if (origin := context.origins.get(role)) and origin.digest else _digest(role, folder)
        for role, folder in sorted(context.models.items())
    ]
    return hashlib.sha256("\n".join([settings, sha256_of(context.data), *models]).encode()).hexdigest()


def score_rows(
    context: RunContext,
    teacher: Teacher,
    pairs: Iterable[Pair],
    rows_total: int,
    spec: ScorePairs,
    mark: str,
    clock: Callable[[], float] = time.monotonic,
) -> Scored:
    """Scores every pair, or those that the checkpoint `context.resume_from` lacks. `mark`: the fingerprint.

    Raises RunStopped after a last checkpoint when asked to stop. Raises UnusableCheckpoint, before anything is scored.
    """
    parts = [] if context.resume_from is None else [read_scores(context.resume_from, mark)]
    resumed_at = saved = done = sum(map(len, parts))
    begun = saved_at = clock()

    def after_batch(within: int) -> None:
        context.check_stop()
        seconds = max(clock() - begun, 1e-9)
        per_s = max(done + within - resumed_at, 1) / seconds
        left = (rows_total - done - within) / per_s
        context.emit(
            ProgressEvent(stage="score", step=done + within, steps_total=rows_total, sequences_per_s=per_s, eta_s=left)
        )

    for window in _windows(islice(pairs, done, None)):
        try:
            scores = teacher.score_pairs(window, raw=spec.activation == "none", after_batch=after_batch)
        except RunStopped:
            if done > saved:
                _checkpoint(context, np.concatenate(parts), mark)
            raise
        parts.append(scores)
        done += len(window)
        if _due(spec, done - saved, clock() - saved_at) or (done == rows_total and done > resumed_at):
            _checkpoint(context, np.concatenate(parts), mark)
            saved, saved_at = done, clock()
    everything = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return Scored(everything, resumed_at, (done - resumed_at) / max(clock() - begun, 1e-9))


def save_scores(root: Path, scores: Scores, mark: str) -> Path:
    """Writes `step-…` below `root`, manifest last, and drops all but the newest KEPT. Returns its folder."""
    directory = root / f"step-{len(scores):08d}"
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    save_file({_SCORES: scores}, directory / "scores.safetensors")
    (directory / "state.json").write_text(json.dumps({"rows": len(scores), "fingerprint": mark}), encoding="utf-8")
    write_manifest(directory, Manifest(artifact="checkpoint", files=describe_files(directory)))
    for old in sorted(path.parent for path in root.glob(f"step-*/{MANIFEST_NAME}"))[:-KEPT]:
        # Without its manifest first: what is half deleted must not look complete.
        (old / MANIFEST_NAME).unlink()
        shutil.rmtree(old)
    return directory


def read_scores(directory: Path, mark: str) -> Scores:
    """Verifies every file against the manifest and returns the scores. Raises UnusableCheckpoint."""
    try:
        manifest = read_manifest(directory)
        if {file.path for file in manifest.files} != _FILES or manifest.files != describe_files(directory):
            raise UnusableCheckpoint(f"{directory.name} does not have the files of its manifest")
        state = json.loads((directory / "state.json").read_bytes())
        scores: Scores = load_file(directory / "scores.safetensors")[_SCORES]
        if state["fingerprint"] != mark:
            raise UnusableCheckpoint(f"{directory.name} belongs to a run with other data, teacher or settings")
        if scores.dtype != np.float32 or scores.shape != (state["rows"],):
            raise UnusableCheckpoint(f"{directory.name} does not hold the scores it says")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UnusableCheckpoint(f"{directory.name} can't be read: {type(error).__name__}") from error
    return scores


def _windows(pairs: Iterator[Pair]) -> Iterator[list[Pair]]:
    while window := list(islice(pairs, WINDOW_ROWS)):
        yield window


def _due(spec: ScorePairs, rows: int, seconds: float) -> bool:
    if spec.checkpoint_every_rows is not None:
        return rows >= spec.checkpoint_every_rows
    return seconds >= _CHECKPOINT_EVERY_S


def _checkpoint(context: RunContext, scores: Scores, mark: str) -> None:
    directory = save_scores(context.checkpoints_dir, scores, mark)
    context.emit(CheckpointEvent(step=len(scores), directory=f"{directory.parent.name}/{directory.name}"))


def _digest(role: str, folder: Path) -> str:
    return f"{role} {Manifest(artifact='model', files=describe_files(folder)).digest}"
