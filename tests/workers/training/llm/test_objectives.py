"""On the same rows, our losses are those of trl's trainers."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from jobspecs.kinds.finetune_llm import FULL_LEARNING_RATES, LlmTraining, Objective
from tests.language_models import build_tiny_chat_tokenizer, build_tiny_llm
from tests.workers.training.llm.attempts import conversations, preferences
from workers.local_models.base_model import load_causal_lm
from workers.training.llm.decoder import Decoder, decoder_of
from workers.training.llm.rows import joined, mismatched
from workers.training.llm.scoring import Float64s, sequence_log_probs
from workers.training.llm.sequences import Sequences, sequences_of
from workers.training.llm.tasks import DpoTask, KtoTask, OrpoTask, SupervisedTask

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS = 6
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models with other weights: one that is trained, one to refer to."""
    root = tmp_path_factory.mktemp("models")
    return build_tiny_llm(root / "policy", seed=1), build_tiny_llm(root / "reference", seed=2)


def settings(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": ROWS,
        "report_to": [],
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
    }


def loss_of(trainer: Any) -> tuple[dict[str, torch.Tensor], float]:
    """The trainer's first batch, and its loss of it."""
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    return batch, float(trainer.compute_loss(trainer.model, dict(batch)))


def decoder(folder: Path) -> Decoder:
    return decoder_of(load_causal_lm(folder).model.train(), pad_id=0, packing=True)


def sequences(batch: dict[str, torch.Tensor], prefix: str = "") -> Sequences:
    present, learnt = batch[f"{prefix}attention_mask"].bool(), batch[f"{prefix}completion_mask"].bool()
    ids = batch[f"{prefix}input_ids"]
    return sequences_of((row[p].numpy(), mask[p].numpy()) for row, p, mask in zip(ids, present, learnt, strict=True))


def interleaved(found: Sequences) -> Sequences:
    """Chosen first and rejected second, in halves, to pairs side by side."""
    half = len(found) // 2
    return found.subset(np.stack((np.arange(half), half + np.arange(half)), axis=1).reshape(-1))


def reference_of(folder: Path, found: Sequences) -> Float64s:
    other = decoder(folder)
    other.model.train(False)
    return sequence_log_probs(other, found, 500, CPU)


def pairs() -> Dataset:
    return Dataset.from_list(preferences(ROWS))


def test_sft_equals_trl(models: tuple[Path, Path], tmp_path: Path) -> None:
    tokenizer = build_tiny_chat_tokenizer()
    rows = []
    for row in conversations(ROWS):
        whole, prompt = (
            tokenizer.apply_chat_template(part, tokenize=True, return_dict=False, add_generation_prompt=asks)
            for part, asks in ((row["messages"], False), (row["messages"][:1], True))
        )
        rows.append({"input_ids": whole, "completion_mask": [int(i >= len(prompt)) for i in range(len(whole))]})
    trainer = SFTTrainer(
        load_causal_lm(models[0]).model,
        args=SFTConfig(**settings(tmp_path), loss_type="nll", completion_only_loss=True),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    _, expected = loss_of(trainer)
    found = sequences_of((row["input_ids"], [bool(m) for m in row["completion_mask"]]) for row in rows)
    task = SupervisedTask(decoder(models[0]), found, LlmTraining(), CPU)
    assert float(task.backward(np.arange(ROWS))) == pytest.approx(expected, abs=1e-5)


def test_dpo_equals_trl(models: tuple[Path, Path], tmp_path: Path) -> None:
    trainer = DPOTrainer(
        load_causal_lm(models[0]).model,
        load_causal_lm(models[1]).model,
        args=DPOConfig(**settings(tmp_path), beta=0.3),
        train_dataset=pairs(),
        processing_class=build_tiny_chat_tokenizer(),
    )
    batch, expected = loss_of(trainer)
    found = interleaved(sequences(batch))
    reference = reference_of(models[1], found)
    for micro_batch_tokens in (10_000, 60):
        training = LlmTraining(beta=0.3, micro_batch_tokens=micro_batch_tokens)
        task = DpoTask(decoder(models[0]), found, training, CPU, reference)
        assert float(task.backward(np.arange(ROWS))) == pytest.approx(expected, abs=1e-5)


def test_kto_equals_trl(models: tuple[Path, Path], tmp_path: Path) -> None:
    rows = [
        {"prompt": row["prompt"], "completion": row["chosen" if number % 3 else "rejected"], "label": bool(number % 3)}
        for number, row in enumerate(preferences(ROWS))
    ]
    trainer = KTOTrainer(
        load_causal_lm(models[0]).model,
        load_causal_lm(models[1]).model,
        args=KTOConfig(**settings(tmp_path), beta=0.3, train_sampling_strategy="sequential"),
        train_dataset=Dataset.from_list(rows),
        processing_class=build_tiny_chat_tokenizer(),
    )
    batch, expected = loss_of(trainer)
    matched, others = sequences(batch), sequences(batch, "KL_")
    everything = joined(matched, others)
    desirable = np.array([bool(label) for label in batch["label"]])
    reference = reference_of(models[1], everything)
    task = KtoTask(decoder(models[0]), everything, LlmTraining(beta=0.3), CPU, desirable, reference)
    assert float(task.backward(np.arange(ROWS))) == pytest.approx(expected, abs=1e-5)
    assert np.array_equal(mismatched(matched, 64).ids, others.ids)


def test_orpo_equals_trl(models: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = settings(tmp_path) | {"per_device_train_batch_size": ROWS}
    trainer = ORPOTrainer(
        load_causal_lm(models[0]).model,
        args=ORPOConfig(**arguments, beta=0.4, max_length=64, remove_unused_columns=False),
        train_dataset=pairs(),
        processing_class=build_tiny_chat_tokenizer(),
    )
    batch, expected = loss_of(trainer)
    parts, answers = [], []
    for row in range(ROWS):
        for side in ("chosen", "rejected"):
            present = batch[f"{side}_attention_mask"][row].bool()
            answer = (batch[f"{side}_labels"][row] != -100)[present].numpy()
            parts.append((batch[f"{side}_input_ids"][row][present].numpy(), answer | (side == "chosen")))
            answers.append(answer)
    task = OrpoTask(decoder(models[0]), sequences_of(parts), LlmTraining(orpo_lambda=0.4), CPU, np.concatenate(answers))
    assert float(task.backward(np.arange(ROWS))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("micro", [{"micro_batch_tokens": 40}, {"micro_batch_size": 1}, {"micro_batch_size": 4}])
def test_micro_batches_add_up_to_the_whole_batch(micro: dict[str, int], models: tuple[Path, Path]) -> None:
    generator = np.random.default_rng(1)
    found = sequences_of(
        (generator.integers(3, 250, n), [i > n // 3 for i in range(n)]) for n in (30, 4, 11, 50, 7, 19)
    )
    results = []
    for training in (LlmTraining(), LlmTraining.model_validate(micro)):
        task = SupervisedTask(decoder(models[0]), found, training, CPU)
        loss = float(task.backward(np.arange(6)))
        results.append((loss, gradients(task.model)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    for name, gradient in results[0][1].items():
        assert torch.allclose(gradient, results[1][1][name], atol=1e-6), name


def test_noise_on_embeddings_is_at_work_in_training_only(models: tuple[Path, Path]) -> None:
    model = load_causal_lm(models[0]).model
    noisy = decoder_of(model, pad_id=0, packing=True, neftune_alpha=5.0)
    found = sequences_of([(list(range(5, 25)), [True] * 20)])
    task = SupervisedTask(noisy, found, LlmTraining(), CPU)
    model.train()
    assert float(task.backward(np.arange(1))) != float(task.backward(np.arange(1)))
    model.train(False)
    assert float(task.backward(np.arange(1))) == float(task.backward(np.arange(1)))


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_full_tunings_learning_rates_are_those_of_trl() -> None:
    configs: dict[Objective, Any] = {"sft": SFTConfig, "dpo": DPOConfig, "kto": KTOConfig, "orpo": ORPOConfig}
    for objective, config in configs.items():
        (default,) = [field.default for field in fields(config) if field.name == "learning_rate"]
        assert default == FULL_LEARNING_RATES[objective]
