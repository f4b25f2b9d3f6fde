"""Models of transformers 5 as transformers 4.51 reads them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.language_models import build_tiny_llm
from workers.engines.environments import built_environment
from workers.engines.tgi.export import config_of_4, export_adapter, export_model, tokenizer_config_of_4
from workers.run.context import RunFailed

#: What transformers 4.51 makes of a folder: run in its own environment, without torch.
_READS = """
import json, sys
from transformers import AutoConfig, AutoTokenizer
config, tokenizer = AutoConfig.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
conversation = [{"role": "user", "content": "far"}]
print(json.dumps({
    "rope_theta": config.rope_theta, "rope_scaling": config.rope_scaling, "torch_dtype": str(config.torch_dtype),
    "ids": tokenizer("in the sea")["input_ids"], "chat": tokenizer.apply_chat_template(conversation, tokenize=False),
    "eos": tokenizer.eos_token,
}))
"""


@pytest.mark.parametrize(
    ("rope", "theta", "scaling"),
    [
        ({"rope_type": "default", "rope_theta": 5e5}, 5e5, None),
        (
            {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0},
            1e4,
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0},
        ),
    ],
)
def test_the_rotary_embeddings_and_the_dtype_stand_where_they_stood_before(
    rope: dict[str, Any], theta: float, scaling: Any
) -> None:
    written = config_of_4({"model_type": "llama", "dtype": "bfloat16", "rope_parameters": rope})
    assert written == {"model_type": "llama", "torch_dtype": "bfloat16", "rope_theta": theta, "rope_scaling": scaling}
    inner = config_of_4({"model_type": "gemma3", "text_config": {"dtype": "float16", "rope_parameters": rope}})
    assert inner["text_config"]["rope_theta"] == theta


def test_a_configuration_of_transformers_4_stays_as_it_is() -> None:
    old = {"model_type": "llama", "torch_dtype": "float16", "rope_theta": 1e6, "rope_scaling": None}
    assert config_of_4(old) == old


def test_the_tokenizer_has_its_template_and_nothing_that_can_not_be_read() -> None:
    written = tokenizer_config_of_4(
        {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<a>"], "eos_token": "<e>"}, "{{ x }}"
    )
    assert written == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "additional_special_tokens": ["<a>"],
        "eos_token": "<e>",
        "chat_template": "{{ x }}",
    }
    kept = tokenizer_config_of_4(
        {"tokenizer_class": "LlamaTokenizerFast", "extra_special_tokens": {"image": "<i>"}}, None
    )
    assert kept == {"tokenizer_class": "LlamaTokenizerFast", "extra_special_tokens": {"image": "<i>"}}


def test_weights_are_linked_and_an_adapter_loses_what_older_peft_does_not_know(tmp_path: Path) -> None:
    source = tmp_path / "adapter"
    source.mkdir()
    (source / "adapter_model.safetensors").write_bytes(b"weights")
    (source / "adapter_config.json").write_text(json.dumps({"r": 8, "arrow_config": None, "revision": "x"}))
    made = export_adapter(source, tmp_path / "made", tmp_path / "base")
    assert (made / "adapter_model.safetensors").resolve() == source / "adapter_model.safetensors"
    config = json.loads((made / "adapter_config.json").read_text())
    assert config == {"r": 8, "base_model_name_or_path": str(tmp_path / "base"), "revision": None}


def test_a_configuration_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("[]")
    with pytest.raises(RunFailed, match=r"config\.json"):
        export_model(tmp_path / "model", tmp_path / "made")


@pytest.mark.skipif("TEST_ENVIRONMENTS" not in os.environ, reason="make test-export builds what this needs")
def test_transformers_4_51_reads_what_we_export_and_misreads_what_we_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EIGENWERK_ENVIRONMENTS_DIR", os.environ["TEST_ENVIRONMENTS"])
    environment = built_environment("transformers-4-51")
    assert environment is not None, "eigenwerk env build transformers-4-51"
    model = build_tiny_llm(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 500000.0
    (model / "config.json").write_text(json.dumps(config))
    made = export_model(model, tmp_path / "made")

    def read(folder: Path) -> subprocess.CompletedProcess[str]:
        argv = [str(environment.python), "-c", _READS, str(folder)]
        return subprocess.run(argv, capture_output=True, text=True, env={"HF_HUB_OFFLINE": "1", "PATH": ""})

    answer = read(made)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert (found["rope_theta"], found["rope_scaling"], found["torch_dtype"]) == (500000.0, None, "float32")
    assert found["chat"].startswith("<|im_start|>user\nfar")
    assert found["eos"] == "<|im_end|>"
    assert found["ids"]
    bare = read(model)
    assert bare.returncode != 0 or json.loads(bare.stdout)["rope_theta"] != 500000.0, "else the export is not needed"
