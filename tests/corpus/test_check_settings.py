"""What a job will train with, told before it is queued."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from corpus.checks.reader import Reader
from corpus.checks.settings import settings_by_profile, settings_of, warnings_of_settings
from jobspecs.kinds.base import SpecBase
from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.kinds.train_embedder import TrainEmbedder
from jobspecs.profile import ColumnProfile, DatasetProfile
from tests.corpus.test_checks import check, classifier, labelled, write

COMMON = {"name": "n", "model": "m", "dataset": "d"}


def llm(**changes: Any) -> FinetuneLlm:
    return FinetuneLlm.model_validate({**COMMON, "kind": "finetune-llm", **changes})


def embedder(**changes: Any) -> TrainEmbedder:
    return TrainEmbedder.model_validate(
        {**COMMON, "kind": "train-embedder", "anchor": "one", "positive": "two", **changes}
    )


@pytest.mark.parametrize(
    ("spec", "usual"),
    [
        (classifier, "train-classifier: 2.5e-05 to 0.000125"),
        (partial(embedder, static=True), "a static train-embedder: 0.005 to 0.025"),
        (partial(llm, objective="dpo", tuning="full"), "dpo with full tuning: 5e-07 to 2.5e-06"),
        (partial(llm, tuning="lora"), "sft with lora: 0.0001 to 0.0005"),
    ],
)
def test_a_learning_rate_far_from_the_usual_ones_is_warned_of_with_these(
    spec: Callable[..., SpecBase], usual: str
) -> None:
    for rate in (5.0, 1e-12):
        (warning,) = warnings_of_settings(spec(training={"learning_rate": rate}))
        assert f"what is usual for {usual}." in warning.message
        assert warning.field == "training.learning_rate"
    assert not list(warnings_of_settings(spec()))


def test_the_report_tells_what_the_job_trains_with(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", labelled(80))
    report = check(classifier(training={"learning_rate": 5e-2}), path, Reader())
    assert report.settings["learning_rate"] == 5e-2
    assert report.settings["epochs"] == "auto (at most about 40)"
    assert report.settings["head_learning_rate"] == "auto (0.5; 0.05 if the base brings a head for these classes)"
    assert report.settings["class_weights"] == "auto (none)"
    assert any("far above what is usual" in warning.message for warning in report.warnings)
    assert settings_of(llm(objective="kto", tuning="full")).items() >= {
        ("objective", "kto"),
        ("tuning", "full"),
        ("output", "merged"),
        ("learning_rate", 1e-6),
        ("beta", 0.1),
    }
    assert "beta" not in settings_of(llm())
    assert settings_of(embedder())["loss"] == "multiple-negatives-ranking"


def test_what_auto_comes_to_is_told_by_the_profile_where_no_check_has_dealt_the_rows() -> None:
    label = ColumnProfile(
        kind="text", empty=0, distinct=2, values={"a": 9000, "b": 1000}, longest_chars=1, mean_chars=1
    )
    profile = DatasetProfile(rows=10_000, columns={"label": label})
    spec = classifier(rows=400, label="label")
    told = settings_by_profile(spec, profile)
    # 300 of 400 rows train, in ten steps.
    assert (told["epochs"], told["class_weights"]) == ("auto (at most about 30)", "auto (about all rows: balanced)")
    assert settings_by_profile(classifier(label="label"), profile)["epochs"] == "auto (at most about 4)"
    named = classifier(label="label", validation={"column": "split", "values": ["dev"]})
    assert "epochs" not in settings_by_profile(named, profile)
