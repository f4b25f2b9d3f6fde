"""The libraries that people have, unmodified, with a running API as their hub, in a process whose HF_ENDPOINT it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from transformers import AutoModel

from tests.api.conftest import HEADLINES, Api
from tests.models import build_tiny_encoder, build_tiny_tokenizer

_PROGRAM = """
import json, sys
from datasets import load_dataset
from peft import AutoPeftModelForFeatureExtraction, LoraConfig, PeftModel, get_peft_model
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

user = sys.argv[1]
model = AutoModel.from_pretrained(f"{user}/tiny", revision="prod")
tokenizer = AutoTokenizer.from_pretrained(f"{user}/tiny")
model.push_to_hub(f"{user}/pushed", max_shard_size="20KB")
tokenizer.push_to_hub(f"{user}/pushed")
embedder = SentenceTransformer(f"{user}/tiny")
embedder.push_to_hub(f"{user}/embedder")
lora = LoraConfig(task_type="FEATURE_EXTRACTION", target_modules=["query"])
get_peft_model(AutoModel.from_pretrained(f"{user}/pushed"), lora).push_to_hub(f"{user}/adapter")
adapted = PeftModel.from_pretrained(AutoModel.from_pretrained(f"{user}/pushed"), f"{user}/adapter")
whole = AutoPeftModelForFeatureExtraction.from_pretrained(f"{user}/adapter")
rows = load_dataset(f"{user}/headlines", split="train")
rows.push_to_hub(f"{user}/rows", num_shards=2)
print(json.dumps({
    "parameters": [model.num_parameters(), AutoModel.from_pretrained(f"{user}/pushed").num_parameters()],
    "tokens": AutoTokenizer.from_pretrained(f"{user}/pushed")("spring garden")["input_ids"],
    "vectors_differ": float(abs(embedder.encode("x") - SentenceTransformer(f"{user}/embedder").encode("x")).max()),
    "adapter": sorted(adapted.peft_config),
    "base": whole.peft_config["default"].base_model_name_or_path,
    "columns": rows.column_names,
    "rows": [len(rows), load_dataset(f"{user}/rows", split="train").to_list() == rows.to_list()],
}))
"""


def test_the_libraries_pull_and_push_models_adapters_and_data_sets(api: Api, tmp_path: Path) -> None:
    base = build_tiny_encoder(tmp_path / "tiny")
    api.import_model(files={path.name: path.read_bytes() for path in base.iterdir() if path.is_file()})
    api.client.put(f"/v1/registry/models/{api.user}/tiny/aliases/prod", json={"version": 1})
    api.push(content=HEADLINES.replace(",", ";"), file_name="headlines.csv")
    found = run_with_hub(api, _PROGRAM, tmp_path, api.user)
    parameters = AutoModel.from_pretrained(base).num_parameters()
    assert found == {
        "parameters": [parameters, parameters],
        "tokens": build_tiny_tokenizer()("spring garden")["input_ids"],
        "vectors_differ": 0.0,
        "adapter": ["default"],
        "base": f"{api.user}/pushed",
        "columns": ["headline", "quality"],
        "rows": [20, True],
    }
    adapter = api.client.get(f"/v1/registry/models/{api.user}/adapter/versions/1").json()
    assert adapter["manifest"]["base"]["reference"] == f"{api.user}/pushed@2"


def run_with_hub(api: Api, program: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """What the program, with this API as its hub and a cache of its own, prints as JSON in its last line."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"{api.url}/hf",
        "HF_TOKEN": api.client.headers["Authorization"].removeprefix("Bearer "),
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
