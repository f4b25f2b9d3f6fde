from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from jobspecs.lifecycle import Reason
from tests.language_models import build_tiny_llm
from tests.models import labelled_texts
from tests.workers.training.attempts import Attempt, write_csv
from workers.local_models.base_model import load_base, load_classifier, load_scorer
from workers.run.context import RunFailed

Attempts = Callable[[str], Attempt]


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("rate", [1e6, 1e30])
def test_a_far_too_high_learning_rate_ends_in_nan_loss(rate: float, weight_decay: float, attempt: Attempts) -> None:
    whole = attempt("whole")
    with pytest.raises(RunFailed) as failure:
        whole.run(training={"learning_rate": rate, "weight_decay": weight_decay, "epochs": 20})
    assert failure.value.reason is Reason.nan_loss
    assert "diverged" in failure.value.message
    assert not (whole.root / "out" / "manifest.json").exists()


def test_a_run_of_one_step_at_an_absurd_rate_never_saves_broken_weights(attempt: Attempts) -> None:
    with pytest.raises(RunFailed) as failure:
        attempt("whole").run(training={"learning_rate": 1e39, "epochs": 0.1, "warmup_fraction": 0})
    assert failure.value.reason is Reason.nan_loss


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("a town", "good"), ("a river", " "), ("rust", "bad")], ["row 2", "quality", "empty"]),
        ([("a town", "good"), ("a river", "bad"), ("  ", "bad")], ["row 3", "headline", "empty"]),
        ([("a town", "good"), ("a river", "good")], ["one class only", "'good'"]),
        ([("a town", "good"), ("a river", "good"), ("rust", "bad")], ["class 'bad' has 1 row"]),
        ([], ["no rows"]),
    ],
)
def test_rows_that_cannot_train_are_named(
    rows: list[tuple[str, str]], words: list[str], attempt: Attempts, tmp_path: Path
) -> None:
    whole = attempt("whole")
    whole.data = tmp_path / "broken.csv"
    write_csv(whole.data, rows)
    with pytest.raises(RunFailed) as failure:
        whole.run()
    assert failure.value.reason is Reason.invalid_dataset
    assert all(word in failure.value.message for word in words), failure.value.message


def test_a_ragged_row_is_named(attempt: Attempts, tmp_path: Path) -> None:
    whole = attempt("whole")
    whole.data = tmp_path / "ragged.csv"
    whole.data.write_text("headline,quality\na town,good\na river,bad,what\n", encoding="utf-8")
    with pytest.raises(RunFailed, match="row 2") as failure:
        whole.run()
    assert failure.value.reason is Reason.invalid_dataset


def test_a_sample_too_small_for_its_classes_is_refused(attempt: Attempts, tmp_path: Path) -> None:
    whole = attempt("whole")
    whole.data = tmp_path / "many.csv"
    write_csv(whole.data, [(text, f"class {row % 5}") for row, (text, _) in enumerate(labelled_texts(40))])
    with pytest.raises(RunFailed, match="rows") as failure:
        whole.run(rows=6)
    assert failure.value.reason is Reason.invalid_dataset


@pytest.fixture
def base(tmp_path: Path, tiny_bert: Path) -> Path:
    return Path(shutil.copytree(tiny_bert, tmp_path / "base"))


def refusal(folder: Path) -> str:
    with pytest.raises(RunFailed) as failure:
        load_base(folder, ("bad", "good"), seed=1)
    assert failure.value.reason is Reason.invalid_model
    return failure.value.message


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_that_brings_code_is_refused(name: str, base: Path) -> None:
    content = json.loads((base / name).read_bytes())
    (base / name).write_text(json.dumps({**content, "auto_map": {"AutoModel": "evil.Model"}}), encoding="utf-8")
    assert "auto_map" in refusal(base)


def test_a_model_without_safetensors_is_refused(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    assert "safetensors" in refusal(base)


def test_weights_that_lack_a_layer_are_refused(base: Path) -> None:
    tensors = load_file(base / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layer.1." not in name}
    save_file(kept, base / "model.safetensors", metadata={"format": "pt"})
    assert "lack" in refusal(base)


def test_damaged_weights_an_unknown_architecture_and_no_config_are_refused(base: Path) -> None:
    content = json.loads((base / "config.json").read_bytes())
    (base / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes()[:1000])
    assert "weights" in refusal(base)
    (base / "config.json").write_text(json.dumps({**content, "model_type": "hat"}), encoding="utf-8")
    assert "config.json" in refusal(base)
    (base / "config.json").unlink()
    assert "config.json" in refusal(base)


def test_a_base_model_without_a_head_is_no_finished_classifier(tiny_bert: Path) -> None:
    with pytest.raises(RunFailed, match="lack"):
        load_classifier(tiny_bert)


def test_a_classifier_of_other_classes_can_be_trained_on(attempt: Attempts, tmp_path: Path) -> None:
    first = attempt("first")
    first.run()
    second = attempt("second")
    second.model, second.data = first.root / "out", tmp_path / "three.csv"
    write_csv(second.data, [(text, f"class {row % 3}") for row, (text, _) in enumerate(labelled_texts(60))])
    manifest = second.run()
    assert manifest.report["classes"] == ["class 0", "class 1", "class 2"]


@pytest.mark.parametrize("load", [partial(load_base, classes=("bad", "good"), seed=1), partial(load_scorer, seed=1)])
def test_a_language_model_without_padding_is_refused_as_the_base_of_an_encoder(
    load: Callable[[Path], object], tmp_path: Path
) -> None:
    folder = build_tiny_llm(tmp_path / "llm")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": None}))
    with pytest.raises(RunFailed, match="choose an encoder, or take finetune-llm") as refused:
        load(folder)
    assert refused.value.reason is Reason.invalid_model
