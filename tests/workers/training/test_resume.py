"""An interrupted run ends with the same bytes as one that was never interrupted, dropout included."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobspecs.events import CheckpointEvent, LogEvent, ProgressEvent, StageEvent
from jobspecs.manifest import MANIFEST_NAME, Manifest, describe_files, read_manifest, write_manifest
from tests.models import build_tiny_encoder
from tests.workers.training.attempts import Attempt, Killed
from workers.run.context import RunStopped
from workers.training.checkpoints import KEPT, UnusableCheckpoint, read_state

Attempts = Callable[[str], Attempt]
#: 98 training rows in batches of 16: 7 steps per epoch, 2 epochs.
STEPS_PER_EPOCH, STEPS = 7, 14


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path, dataset: Path) -> Manifest:
    return Attempt(tmp_path_factory.mktemp("unbroken"), tiny_bert, dataset).run()


def same_result(one: Manifest, other: Manifest) -> bool:
    return one.digest == other.digest and one.metrics == other.metrics


@pytest.mark.parametrize("step", [1, 3, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 1, 12, STEPS - 1, STEPS])
def test_a_killed_run_resumes_to_the_same_bytes(step: int, attempt: Attempts, unbroken: Manifest) -> None:
    broken = attempt("broken")
    with pytest.raises(Killed):
        broken.run(kill_after_step=step)
    torch.manual_seed(999)  # another process would have other random numbers
    resumed = attempt("resumed")
    manifest = resumed.run(resume_from=broken.newest_checkpoint)
    assert same_result(manifest, unbroken)
    assert manifest.report["training"]["resumed_at_step"] == step


def test_steps_after_the_last_checkpoint_are_repeated(attempt: Attempts, unbroken: Manifest) -> None:
    broken = attempt("broken")
    with pytest.raises(Killed):
        broken.run(kill_after_step=5, training={"checkpoint_every_steps": 3})
    assert broken.newest_checkpoint.name == "step-00000003"
    manifest = attempt("resumed").run(resume_from=broken.newest_checkpoint, training={"checkpoint_every_steps": 4})
    assert same_result(manifest, unbroken)


def test_a_run_may_be_broken_again_and_again(attempt: Attempts, unbroken: Manifest) -> None:
    checkpoint = None
    for number in range(4):
        broken = attempt(f"broken{number}")
        with pytest.raises(Killed):
            broken.run(resume_from=checkpoint, kill_after_step=3)
        checkpoint = broken.newest_checkpoint
    assert checkpoint is not None and checkpoint.name == "step-00000012"
    assert same_result(attempt("last").run(resume_from=checkpoint), unbroken)


def test_a_run_asked_to_stop_writes_a_checkpoint_first(attempt: Attempts, unbroken: Manifest) -> None:
    stopped = attempt("stopped")
    with pytest.raises(RunStopped):
        stopped.run(stop_after_step=9, training={"checkpoint_every_steps": 100})
    saved = [event for event in stopped.events if isinstance(event, CheckpointEvent)]
    assert [(event.step, event.directory) for event in saved] == [(9, "checkpoints/step-00000009")]
    assert not (stopped.root / "out" / MANIFEST_NAME).exists()
    assert same_result(attempt("resumed").run(resume_from=stopped.newest_checkpoint), unbroken)


def test_a_run_stopped_before_its_first_step_leaves_no_checkpoint(attempt: Attempts) -> None:
    stopped = attempt("stopped")
    with pytest.raises(RunStopped):
        stopped.run(stop_after_step=0)
    assert not (stopped.root / "checkpoints").exists()


def test_another_architecture_resumes_exactly_too(
    tmp_path: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = build_tiny_encoder(tmp_path / "model", "distilbert")
    whole = Attempt(tmp_path / "whole", model, dataset).run()
    broken = Attempt(tmp_path / "broken", model, dataset)
    with pytest.raises(Killed):
        broken.run(kill_after_step=9)
    resumed = Attempt(tmp_path / "resumed", model, dataset).run(resume_from=broken.newest_checkpoint)
    assert same_result(resumed, whole)


def test_frozen_embeddings_stay_as_they_were_and_out_of_the_checkpoint(attempt: Attempts) -> None:
    settings: dict[str, Any] = {"training": {"freeze_embeddings": True}}
    whole = attempt("whole")
    manifest = whole.run(**settings)
    name = "embeddings.word_embeddings.weight"
    before, after = load_file(whole.model / "model.safetensors"), load_file(whole.root / "out" / "model.safetensors")
    assert torch.equal(before[name], after[f"bert.{name}"])
    assert not any("word_embeddings" in key for key in load_file(whole.newest_checkpoint / "model.safetensors"))
    broken = attempt("broken")
    with pytest.raises(Killed):
        broken.run(kill_after_step=9, **settings)
    assert same_result(attempt("resumed").run(resume_from=broken.newest_checkpoint, **settings), manifest)


def test_only_the_newest_checkpoints_are_kept_and_nothing_is_pickled(attempt: Attempts) -> None:
    whole = attempt("whole")
    whole.run()
    folders = sorted(path.name for path in (whole.root / "checkpoints").iterdir())
    assert folders == [f"step-{step:08d}" for step in range(STEPS - KEPT + 1, STEPS + 1)]
    assert {path.suffix for path in (whole.root / "checkpoints").rglob("*") if path.is_file()} == {
        ".json",
        ".safetensors",
    }


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json"])
def test_a_changed_checkpoint_is_refused_and_training_starts_anew(
    name: str, attempt: Attempts, unbroken: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    broken = attempt("broken")
    with pytest.raises(Killed):
        broken.run(kill_after_step=3)
    path = broken.newest_checkpoint / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnusableCheckpoint, match=f"{name} does not have its sha256"):
        read_state(broken.newest_checkpoint, "any")
    manifest = attempt("resumed").run(resume_from=broken.newest_checkpoint)
    assert same_result(manifest, unbroken)
    assert manifest.report["training"]["resumed_at_step"] == 0
    assert "checkpoint refused" in caplog.text


def test_a_checkpoint_without_manifest_is_refused(attempt: Attempts) -> None:
    broken = attempt("broken")
    with pytest.raises(Killed):
        broken.run(kill_after_step=3)
    checkpoint = broken.newest_checkpoint
    (checkpoint / MANIFEST_NAME).unlink()
    with pytest.raises(UnusableCheckpoint, match="manifest"):
        read_state(checkpoint, "any")


def test_a_checkpoint_of_other_hyperparameters_is_refused(attempt: Attempts) -> None:
    broken = attempt("broken")
    with pytest.raises(Killed):
        broken.run(kill_after_step=3, training={"learning_rate": 1e-3})
    assert json.loads((broken.newest_checkpoint / "state.json").read_bytes())["step"] == 3
    manifest = attempt("resumed").run(resume_from=broken.newest_checkpoint)
    assert manifest.report["training"]["resumed_at_step"] == 0


def test_the_stages_and_the_progress_are_told_in_order(attempt: Attempts) -> None:
    whole = attempt("whole")
    whole.run()
    stages = [event.stage for event in whole.events if isinstance(event, StageEvent)]
    assert stages == ["prepare", "tokenize", "train", "validate", "baseline", "save"]
    progress = [event for event in whole.events if isinstance(event, ProgressEvent) and event.stage == "train"]
    assert (progress[0].step, progress[-1].step, progress[-1].epoch) == (1, STEPS, 2.0)
    assert all(event.eta_s is not None and event.sequences_per_s for event in progress)
    assert not [event for event in whole.events if isinstance(event, LogEvent)]
    assert read_manifest(whole.root / "out").task == "text-classification"


@pytest.mark.parametrize("name", ["model", "optimizer", "rng"])
def test_a_checkpoint_with_tensors_of_another_shape_is_refused_and_training_starts_anew(
    name: str, attempt: Attempts, unbroken: Manifest
) -> None:
    broken = attempt("broken")
    with pytest.raises(Killed):
        broken.run(kill_after_step=3)
    path = broken.newest_checkpoint / f"{name}.safetensors"
    tensors = load_file(path)
    last = sorted(tensors)[-1]
    save_file({**tensors, last: torch.zeros(3)}, path)
    manifest = read_manifest(broken.newest_checkpoint)
    files = describe_files(broken.newest_checkpoint)
    write_manifest(broken.newest_checkpoint, manifest.model_copy(update={"files": files}))
    resumed = attempt("resumed").run(resume_from=broken.newest_checkpoint)
    assert same_result(resumed, unbroken)
    assert resumed.report["training"]["resumed_at_step"] == 0
