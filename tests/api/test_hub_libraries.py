"""The libraries that people have, unmodified, pulling from a running API: each in a process whose HF_ENDPOINT it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model
from transformers import AutoModel

from tests.api.conftest import HEADLINES, Api
from tests.models import build_tiny_encoder

_PULL = """
import json, sys
from datasets import load_dataset
from peft import AutoPeftModelForFeatureExtraction, PeftModel
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

user = sys.argv[1]
model = AutoModel.from_pretrained(f"{user}/tiny", revision="prod")
tokenizer = AutoTokenizer.from_pretrained(f"{user}/tiny")
adapted = PeftModel.from_pretrained(AutoModel.from_pretrained(f"{user}/tiny"), f"{user}/adapter")
whole = AutoPeftModelForFeatureExtraction.from_pretrained(f"{user}/adapter")
rows = load_dataset(f"{user}/headlines", split="train")
print(json.dumps({
    "parameters": model.num_parameters(),
    "tokens": tokenizer("spring garden")["input_ids"],
    "vector": SentenceTransformer(f"{user}/tiny").encode("spring").shape[0],
    "adapter": sorted(adapted.peft_config),
    "base": whole.peft_config["default"].base_model_name_or_path,
    "columns": rows.column_names,
    "rows": len(rows),
}))
"""


def test_the_libraries_load_models_adapters_and_data_sets(api: Api, tmp_path: Path) -> None:
    base = build_tiny_encoder(tmp_path / "tiny")
    api.import_model(files=_files(base))
    api.client.put(f"/v1/registry/models/{api.user}/tiny/aliases/prod", json={"version": 1})
    adapter = tmp_path / "adapter"
    lora = LoraConfig(task_type="FEATURE_EXTRACTION", target_modules=["query"], revision="1")
    wrapped = get_peft_model(AutoModel.from_pretrained(base), lora)
    wrapped.peft_config["default"].base_model_name_or_path = f"{api.user}/tiny"
    wrapped.save_pretrained(adapter, save_embedding_layers=False)
    api.import_model(
        "adapter", files={**_files(adapter), "model.safetensors": (base / "model.safetensors").read_bytes()}
    )
    api.push(content=HEADLINES.replace(",", ";"), file_name="headlines.csv")
    pulled = run_with_hub(api, _PULL, tmp_path, api.user)
    assert pulled == {
        "parameters": AutoModel.from_pretrained(base).num_parameters(),
        "tokens": pulled["tokens"],
        "vector": 32,
        "adapter": ["default"],
        "base": f"{api.user}/tiny",
        "columns": ["headline", "quality"],
        "rows": 20,
    }
    assert len(pulled["tokens"]) == 4


def run_with_hub(api: Api, program: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """What the program, with this API as its hub and a cache of its own, prints as JSON in its last line."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"{api.url}/hf",
        "HF_TOKEN": api.client.headers["Authorization"].removeprefix("Bearer "),
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
