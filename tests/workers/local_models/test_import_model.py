"""`import-model` on a tiny real GGUF, and on the SmolLM2 of the demo's wheel."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch_file
from transformers import AutoTokenizer

from jobspecs.events import ChildEvent
from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest, ModelOrigin, read_manifest
from jobspecs.registry import parse_spec
from tests.models import build_tiny_encoder
from tests.weights import smollm2_gguf
from tests.workers.local_models.gguf_file import SPECIAL, write_tiny_gguf
from workers.engines.embedded.generation.answers import whole
from workers.engines.embedded.generation.generator import Generator
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.embedded.generation.sampling import Sampling
from workers.local_models import gguf_model
from workers.run.context import RunContext, RunFailed
from workers.runners.registry import RUNNERS


def import_model(folder: Path, output: Path, **fields: Any) -> Manifest:
    output.mkdir()
    events: list[ChildEvent] = []
    context = RunContext(
        spec=parse_spec({"kind": "import-model", "name": "mine", "model": "raw@1", **fields}),
        dataset_path=None,
        model_dir=folder,
        output_dir=output,
        checkpoints_dir=output.parent / "checkpoints",
        resume_from=None,
        emit=events.append,
        stop_requested=lambda: False,
        origins={"model": ModelOrigin(reference="ada/raw@1", digest="d" * 64)},
    )
    return RUNNERS["import-model"](context)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_tiny_gguf(folder / "tiny.Q8_0.gguf")
    return folder


@pytest.fixture(scope="module")
def imported(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("imported") / "out"
    import_model(raw, output)
    return output


def test_a_gguf_becomes_a_safetensors_model_with_tokenizer_template_and_card(imported: Path) -> None:
    manifest = read_manifest(imported)
    paths = {file.path for file in manifest.files}
    assert manifest.task == "text-generation"
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "README.md"} <= paths
    assert manifest.report["stored_as"] == {"F32": 5, "Q8_0": 15}
    assert "faithful" in manifest.report["verdict"]["sentence"]
    assert "`tiny.Q8_0.gguf` of `ada/raw@1`" in (imported / "README.md").read_text(encoding="utf-8")


def test_the_converted_weights_are_those_of_the_file(raw: Path, imported: Path) -> None:
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(raw / "tiny.Q8_0.gguf").tensors}
    ours = load_file(imported / "model.safetensors")
    down = stored["blk.1.ffn_down.weight"]
    expected = gguf.dequantize(down.data, down.tensor_type)
    assert np.array_equal(ours["model.layers.1.mlp.down_proj.weight"], expected)


def test_answers_end_at_the_token_that_the_file_names(imported: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(imported)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token) == (SPECIAL[1], SPECIAL[2], SPECIAL[0])
    assert tokenizer.model_max_length == 256
    model = LanguageModel.load(imported)
    assert model.end_tokens == {2}
    assert model.decode(model.encode("the thing, in short!")) == "the thing, in short!"
    prompt = model.encode_rendered(model.render_chat([{"role": "user", "content": "Hi"}]))
    model.close()
    assert (prompt[0], prompt.count(1), prompt.count(2)) == (1, 2, 1)


def test_half_precision_is_written_when_it_is_asked_for(raw: Path, imported: Path, tmp_path: Path) -> None:
    import_model(raw, tmp_path / "out", dtype="bf16", file="tiny.Q8_0.gguf")
    half, single = (sum(array.nbytes for array in arrays(folder)) for folder in (tmp_path / "out", imported))
    assert half * 2 == single


def arrays(folder: Path) -> list[torch.Tensor]:
    return list(load_torch_file(folder / "model.safetensors").values())


def test_of_several_files_one_must_be_named(raw: Path, tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        shutil.copyfile(raw / "tiny.Q8_0.gguf", tmp_path / name)
    for fields, words in (({}, "a.gguf, b.gguf"), ({"file": "c.gguf"}, "no file c.gguf")):
        with pytest.raises(RunFailed, match=words) as refused:
            import_model(tmp_path, tmp_path / f"out-{len(fields)}", **fields)
        assert refused.value.reason is Reason.invalid_model


def test_a_conversion_that_changes_values_is_refused(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = gguf_model.load_gguf

    def wrongly(file: Path, dtype: str) -> gguf_model.GgufModel:
        loaded = load(file, dtype)
        with torch.no_grad():
            for layer in loaded.model.model.layers:
                layer.mlp.down_proj.weight[0, 0] += 1
        return loaded

    monkeypatch.setattr("workers.runners.import_model.load_gguf", wrongly)
    with pytest.raises(RunFailed, match=r"ffn_down.weight differs"):
        import_model(raw, tmp_path / "out")


def test_an_architecture_that_transformers_does_not_know_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "odd.gguf", "odd")
    writer.add_tensor("token_embd.weight", np.ones((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(RunFailed, match=r"odd.gguf can't be converted"):
        import_model(tmp_path, tmp_path / "out")


def test_a_safetensors_model_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = build_tiny_encoder(tmp_path / "encoder")
    manifest = import_model(folder, tmp_path / "out")
    assert manifest.task is None
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_smollm2_of_the_wheel_answers_after_its_import(tmp_path: Path) -> None:
    file = smollm2_gguf()
    (tmp_path / file.name).symlink_to(file)
    manifest = import_model(tmp_path, tmp_path / "out")
    assert manifest.metrics["parity/tensors_compared"] == gguf_model.COMPARED_TENSORS
    generator = Generator(LanguageModel.load(tmp_path / "out"))

    async def ask() -> str:
        prompt = await generator.prompts.encode_chat([{"role": "user", "content": "What is the capital of France?"}])
        return (await whole(generator.start(prompt, Sampling(12, temperature=0)))).text

    assert "Paris" in asyncio.run(ask())
    generator.close()
