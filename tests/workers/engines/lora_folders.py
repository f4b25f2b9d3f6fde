"""LoRA adapters with random weights, written by peft itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import torch

from workers.local_models.base_model import load_causal_lm


def write_lora(folder: Path, base_dir: Path, seed: int, **config: Any) -> Path:
    """An adapter of the model in `base_dir` that makes it say something else."""
    torch.manual_seed(seed)
    settings = {"r": 3, "target_modules": ["q_proj", "v_proj"], "lora_alpha": 24, **config}
    wanted = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **settings)
    peft.get_peft_model(load_causal_lm(base_dir).model, wanted).save_pretrained(folder)
    return folder


def greedy(base_dir: Path, folder: Path, prompt: list[int], new_tokens: int) -> list[int]:
    """What peft writes with the adapter, not merged."""
    adapted = peft.PeftModel.from_pretrained(load_causal_lm(base_dir).model, str(folder)).eval()
    ids = torch.tensor([prompt])
    written = adapted.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new_tokens
    )
    return [int(token) for token in written[0, len(prompt) :]]
