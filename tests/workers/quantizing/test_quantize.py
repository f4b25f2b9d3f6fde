"""`quantize` on a tiny trained-like model: GGUF files that the real llama.cpp serves, what they cost, and refusals."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from jobspecs.events import ChildEvent
from jobspecs.figures import figures_of_kind
from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest
from jobspecs.registry import parse_spec
from jobspecs.verification import Cause, VerificationState
from tests.workers.parity.models import build_peaked_llm, change_json, change_weights, copied
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.quantizing import compressed
from workers.quantizing.gguf_k_types import k_types
from workers.quantizing.gguf_writing import pre_tokenizer, type_of
from workers.run.context import RunContext, RunFailed, RunStopped
from workers.run.failures import reason_of
from workers.runners.registry import RUNNERS

_TYPES = gguf.GGMLQuantizationType


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_peaked_llm(tmp_path_factory.mktemp("model") / "folder")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("texts") / "texts.txt"
    words = ("river", "lantern", "harvest", "bread", "garden", "music")
    lines = [
        f"On day {row} the {words[row % 6]} and the {words[row * row % 5]} were seen near town." for row in range(40)
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def quantize(
    model: Path, texts: Path, output: Path, stop: Callable[[], bool] = lambda: False, **fields: Any
) -> Manifest:
    output.mkdir(parents=True)
    events: list[ChildEvent] = []
    document = {"kind": "quantize", "name": "small", "model": "big@1", "dataset": "texts@1", **fields}
    document.setdefault("validation", {"rows": 8, "length": 48})
    context = RunContext(
        spec=parse_spec(document),
        dataset_path=texts,
        model_dir=model,
        output_dir=output,
        checkpoints_dir=output.parent / "checkpoints",
        resume_from=None,
        emit=events.append,
        stop_requested=stop,
    )
    manifest = RUNNERS["quantize"](context)
    assert set(manifest.metrics) <= figures_of_kind(context.spec)
    return manifest


def test_a_gguf_is_served_by_the_real_llama_cpp_as_its_source_is(model: Path, texts: Path, tmp_path: Path) -> None:
    manifest = quantize(model, texts, tmp_path / "out", scheme="gguf:q8_0")
    assert manifest.verification is not None
    assert manifest.verification.state is VerificationState.verified
    assert (manifest.verification.engine, manifest.task) == ("llama.cpp", "text-generation")
    assert {file.path for file in manifest.files} == {"small.Q8_0.gguf", "README.md"}
    assert 8.5 <= manifest.metrics["size/bits_per_weight"] < 9.5
    assert manifest.metrics["size/bytes"] < manifest.metrics["size/baseline_bytes"] / 2
    low, value, high = (manifest.metrics[f"validation/kl_divergence{end}"] for end in ("_low", "", "_high"))
    assert 0 < low <= value <= high < 0.05
    assert manifest.metrics["validation/agreement"] > 0.9
    assert not list((tmp_path).glob("quantize-*")), "the scratch folder is gone"


def test_fewer_bits_cost_more_and_the_same_job_gives_the_same_bytes(model: Path, texts: Path, tmp_path: Path) -> None:
    eight, four, again = (
        quantize(model, texts, tmp_path / f"{number}", scheme=scheme)
        for number, scheme in enumerate(("gguf:q8_0", "gguf:q4_0", "gguf:q4_0"))
    )
    for figure, sign in (("validation/kl_divergence", 1), ("size/bits_per_weight", -1), ("validation/agreement", -1)):
        assert sign * (four.metrics[figure] - eight.metrics[figure]) > 0
    assert (four.digest, four.metrics) == (again.digest, again.metrics)


_GROUPS = {"group_size": 32}
_FEW = {"samples": 12, "length": 32}


@pytest.mark.parametrize(
    ("scheme", "fields"),
    [("nf4", {}), ("int8", {}), ("gptq", _GROUPS), ("awq", _GROUPS), ("int4-rtn", _GROUPS), ("fp8", {})],
)
def test_a_packed_folder_is_served_by_the_embedded_engine(
    model: Path, texts: Path, tmp_path: Path, scheme: str, fields: dict[str, Any]
) -> None:
    manifest = quantize(model, texts, tmp_path / "out", scheme=scheme, calibration=_FEW, **fields)
    assert manifest.verification is not None
    assert manifest.verification.state is VerificationState.verified, manifest.verification.message
    assert manifest.verification.engine == "the embedded engine"
    # A small model is mostly embeddings, which stay as they are.
    assert manifest.metrics["size/bits_per_weight"] < 20
    assert 0 < manifest.metrics["validation/kl_divergence"] < 0.2
    served = LanguageModel.load(tmp_path / "out")
    assert served.encode("river")
    served.close()


def test_llmcompressor_still_needs_its_pinning_switched_off(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("with a GPU memory can be pinned")
    from llmcompressor.pipelines.cache import IntermediatesCache

    pins = IntermediatesCache.pin_memory
    monkeypatch.setattr(compressed, "_unpinned", nullcontext)
    with pytest.raises(RuntimeError, match=r"(?i)accelerator|cuda|pin"):
        quantize(model, texts, tmp_path / "out", scheme="awq", calibration=_FEW, group_size=32)
    assert IntermediatesCache.pin_memory is pins, "outside of the job it is the library's own"


def test_groups_that_do_not_fit_are_refused_with_those_that_do(model: Path, texts: Path, tmp_path: Path) -> None:
    said = r"groups of 128 weights don't divide layers with 32 and 64 columns. Write group_size: 32 or 16"
    assert refused(model, texts, tmp_path / "out", said, scheme="int4-rtn") is Reason.unsatisfiable


def test_a_file_with_another_rope_base_is_unverified_and_the_cause_named(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = gguf.GGUFWriter.add_rope_freq_base
    monkeypatch.setattr(gguf.GGUFWriter, "add_rope_freq_base", lambda self, value: write(self, 10_000.0))
    manifest = quantize(model, texts, tmp_path / "out", scheme="gguf:f16")
    assert manifest.verification is not None
    assert manifest.verification.cause is Cause.rope
    assert "Unverified (rope)" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_k_types_keep_normal_weights_as_closely_as_their_bits_allow() -> None:
    weights = np.random.default_rng(0).normal(size=(8, 512)).astype(np.float32)
    # Root mean square errors on normal weights as measured here, and a tenth: Q5_K packed wrongly has 0.060.
    expected = {"Q2_K": 0.33, "Q3_K": 0.19, "Q4_K": 0.079, "Q5_K": 0.040, "Q6_K": 0.0196}
    with k_types():
        for name, error in expected.items():
            kind = _TYPES[name]
            back = gguf.dequantize(gguf.quantize(weights, kind), kind)
            assert float(np.sqrt(((back - weights) ** 2).mean())) < error, name
    with pytest.raises(NotImplementedError):
        gguf.quantize(weights, _TYPES.Q4_K)


def test_rows_that_no_k_block_fits_get_the_type_that_llama_cpp_gives_them() -> None:
    assert [type_of(_TYPES.Q4_K, columns) for columns in (512, 576, 100)] == [_TYPES.Q4_K, _TYPES.Q5_0, _TYPES.F16]
    assert type_of(_TYPES.Q6_K, 576) == _TYPES.Q8_0


def test_a_byte_level_pre_tokenizer_is_called_as_llama_cpp_calls_it(model: Path, tmp_path: Path) -> None:
    assert pre_tokenizer(model) == "gpt-2"
    other = copied(model, tmp_path / "other")
    steps = [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "use_regex": True}]
    change_json(other / "tokenizer.json", pre_tokenizer={"type": "Sequence", "pretokenizers": steps})
    assert pre_tokenizer(other) == "smollm"
    change_json(other / "tokenizer.json", pre_tokenizer={"type": "Whitespace"})
    with pytest.raises(NotImplementedError, match="Whitespace"):
        pre_tokenizer(other)


def refused(model: Path, texts: Path, output: Path, words: str, **fields: Any) -> Reason:
    with pytest.raises(RunFailed, match=words) as failed:
        quantize(model, texts, output, **{"scheme": "gguf:q8_0", **fields})
    assert not list(output.iterdir())
    return failed.value.reason


def test_what_can_not_be_quantized_is_refused_with_the_reason(model: Path, texts: Path, tmp_path: Path) -> None:
    changed = {name: copied(model, tmp_path / name) for name in ("code", "pickle", "packed", "broken", "odd")}
    change_json(changed["code"] / "config.json", auto_map={"AutoModelForCausalLM": "code.Model"})
    (changed["pickle"] / "model.safetensors").rename(changed["pickle"] / "pytorch_model.bin")
    change_json(changed["packed"] / "config.json", quantization_config={"quant_method": "gptq"})
    change_json(changed["odd"] / "config.json", architectures=["OddForCausalLM"])
    change_weights(
        changed["broken"],
        lambda weights: {**weights, "model.norm.weight": torch.full_like(weights["model.norm.weight"], float("nan"))},
    )
    words = {
        "code": "auto_map",
        "pickle": "no safetensors",
        "packed": "quantized already",
        "broken": r"model.norm.weight holds values that are not finite",
        "odd": "OddForCausalLM",
    }
    for name, said in words.items():
        assert refused(changed[name], texts, tmp_path / f"out-{name}", said) is Reason.invalid_model


def test_too_few_texts_are_refused(model: Path, texts: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.txt"
    few.write_text("\n".join(texts.read_text(encoding="utf-8").splitlines()[:12]), encoding="utf-8")
    reason = refused(model, few, tmp_path / "out", "validation: 3 texts have 16 tokens")
    assert reason is Reason.invalid_dataset


def test_a_full_disk_fails_the_job_with_its_reason(
    model: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(OSError, match="No space left") as failed:
        quantize(model, texts, tmp_path / "out", scheme="gguf:q8_0")
    assert reason_of(failed.value)[0] is Reason.disk_full
    assert not list((tmp_path / "out").iterdir())


def test_it_stops_when_it_is_asked_to(model: Path, texts: Path, tmp_path: Path) -> None:
    asked = iter([False] * 12)
    with pytest.raises(RunStopped):
        quantize(model, texts, tmp_path / "out", lambda: next(asked, True), scheme="gguf:q8_0")
    assert not list((tmp_path / "out").iterdir())
