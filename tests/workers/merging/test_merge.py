"""`merge`: what is registered, and what is refused before anything is."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
)

from jobspecs.lifecycle import Reason
from tests.language_models import build_tiny_llm
from tests.models import build_tiny_encoder
from tests.workers.merging.merges import change, child_of, merged, tensors_of
from workers.merging import weights
from workers.run.context import RunFailed
from workers.run.failures import reason_of

WEIGHTED = [{"model": name, "parameters": {"weight": 1}} for name in ("one", "two")]
LINEAR: dict[str, Any] = {"method": "linear", "models": WEIGHTED}
TWICE = [{"sources": [{"model": name, "layer_range": [0, 2]}]} for name in ("one", "two")]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    base = build_tiny_llm(root / "base")
    return {"base": base, "one": child_of(base, root / "one", 1), "two": child_of(base, root / "two", 2)}


def test_layers_of_two_models_follow_each_other_and_the_result_writes(models: dict[str, Path], tmp_path: Path) -> None:
    manifest = merged(models, tmp_path / "out", method="passthrough", slices=TWICE)
    made = tensors_of(tmp_path / "out")
    name = "model.layers.{}.mlp.up_proj.weight"
    assert torch.equal(made[name.format(3)], tensors_of(models["two"])[name.format(1)])
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.num_hidden_layers == 4
    assert model.generate(torch.tensor([[5, 6]]), max_new_tokens=3, do_sample=False).shape == (1, 5)
    assert manifest.task == "text-generation"
    assert manifest.report["merged"]["models"] == ["ada/one@1", "ada/two@1"]
    assert {"tokenizer.json", "chat_template.jinja", "README.md"} <= {file.path for file in manifest.files}


def test_classifiers_merge_with_their_heads(tmp_path: Path) -> None:
    base = build_tiny_encoder(tmp_path / "base")
    config = BertConfig.from_pretrained(base, id2label={0: "bad", 1: "good", 2: "odd"})
    model = BertForSequenceClassification(config)
    model.save_pretrained(base)
    models = {"one": child_of(base, tmp_path / "one", 1), "two": child_of(base, tmp_path / "two", 2)}
    manifest = merged(models, tmp_path / "out", **LINEAR)
    assert manifest.task == "text-classification"
    made = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    heads = [tensors_of(models[name])["classifier.weight"] for name in ("one", "two")]
    assert torch.allclose(made.classifier.weight, torch.stack(heads).mean(dim=0), atol=1e-7)
    assert made.config.id2label == {0: "bad", 1: "good", 2: "odd"}


def test_large_results_are_written_in_several_files_and_again_with_the_same_bytes(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = merged(models, tmp_path / "whole", out_dtype="bfloat16", **LINEAR)
    assert merged(models, tmp_path / "again", out_dtype="bfloat16", **LINEAR).digest == whole.digest
    monkeypatch.setattr(weights.WeightsWriter.__init__, "__defaults__", (20_000,))
    manifest = merged(models, tmp_path / "parts", out_dtype="bfloat16", **LINEAR)
    assert len([file for file in manifest.files if file.path.endswith(".safetensors")]) > 2
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "parts").dtype == torch.bfloat16
    parts, one = tensors_of(tmp_path / "parts"), tensors_of(tmp_path / "whole")
    assert all(torch.equal(parts[name], one[name]) for name in one)


def _without(name: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        tensors = tensors_of(folder)
        del tensors[name]
        change(folder, tensors)

    return remove


def _with_infinity(folder: Path) -> None:
    tensors = tensors_of(folder)
    tensors["model.norm.weight"][3] = torch.inf
    change(folder, tensors)


def _config(**fields: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps({**document, **fields}), encoding="utf-8")

    return write


def _with_tokens_exchanged(folder: Path) -> None:
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = document["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")


def _as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _as_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (_without("model.norm.weight"), "two has no tensor model.norm.weight"),
        (_with_infinity, "two: model.norm.weight has weights that are no finite numbers"),
        (_config(auto_map={"AutoModel": "x.Y"}), "two: config.json has auto_map"),
        (_config(quantization_config={"bits": 4}), "two is quantized"),
        (_config(model_type="own"), "two: no architecture of transformers is 'own'"),
        (_config(rope_parameters={"rope_type": "default", "rope_theta": 5e5}), "two has the rotation of positions"),
        (_config(num_attention_heads=1), "two has num_attention_heads 1"),
        (_with_tokens_exchanged, "two has another vocabulary than one"),
        (_as_pickle, "pickled weights are never loaded"),
        (_as_adapter, "two is an adapter"),
    ],
)
def test_a_parent_that_can_not_be_merged_is_named_and_nothing_is_made(
    broken: Callable[[Path], None], words: str, models: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(models["two"], tmp_path / "two")
    broken(tmp_path / "two")
    with pytest.raises(RunFailed, match=words) as failed:
        merged({**models, "two": tmp_path / "two"}, tmp_path / "out", **LINEAR)
    assert failed.value.reason is Reason.invalid_model
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_what_else_differs_is_told_and_the_leading_model_s_is_kept(models: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(models["two"], tmp_path / "two")
    (tmp_path / "two" / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    manifest = merged({**models, "two": tmp_path / "two"}, tmp_path / "out", **LINEAR)
    sentence = "two has another chat_template than one; the merged model has one's."
    assert manifest.report["differences"] == [sentence]
    assert sentence in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "chat_template.jinja").read_bytes() == (
        models["one"] / "chat_template.jinja"
    ).read_bytes()


def test_models_of_another_width_depth_or_family_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    other = build_tiny_llm(tmp_path / "other", "qwen3")
    with pytest.raises(RunFailed, match="other model"):
        merged({**models, "two": other}, tmp_path / "out", **LINEAR)
    wide = tensors_of(models["two"])
    wide["model.embed_tokens.weight"] = torch.zeros(300, 32)
    shutil.copytree(models["two"], tmp_path / "two")
    change(tmp_path / "two", wide)
    with pytest.raises(RunFailed, match=r"embed_tokens.weight has different shapes .*two: \[300, 32\]"):
        merged({**models, "two": tmp_path / "two"}, tmp_path / "out2", **LINEAR)
    with pytest.raises(RunFailed, match="one has 2 layers"):
        slices = [{"sources": [{"model": "one", "layer_range": [0, 3]}]}]
        merged(models, tmp_path / "out3", method="passthrough", slices=slices)


def test_a_disk_that_is_full_or_fills_up_fails_the_job_by_name(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space") as failed:
        patched.setattr(weights.WeightsWriter, "write", full)
        merged(models, tmp_path / "out", **LINEAR)
    assert reason_of(failed.value)[0] is Reason.disk_full
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5))
    with pytest.raises(RunFailed, match="has 5 left") as refused:
        merged(models, tmp_path / "out2", **LINEAR)
    assert refused.value.reason is Reason.disk_full
