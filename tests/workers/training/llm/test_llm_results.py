"""What finetune-llm leaves behind loads in the libraries people use, and says how good it is."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from corpus.neutral_texts import NEUTRAL_TEXTS
from jobspecs.lifecycle import Reason
from jobspecs.manifest import read_manifest
from tests.workers.training.kept import Kept, assert_told_again
from tests.workers.training.llm.attempts import BASE, LlmAttempt, conversations, write_jsonl
from workers.engines.embedded.generation.answers import whole as whole_answer
from workers.engines.embedded.generation.generator import Generator
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.engines.embedded.generation.sampling import Sampling
from workers.run.context import RunFailed

IDS = torch.tensor([[5, 40, 77, 120, 9, 33, 61, 200]])


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(input_ids=IDS).logits


def whole(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


ASKED = [{"role": "user", "content": "3 dog?"}]


def said_by_the_pipeline(folder: Path) -> str:
    """The most probable answer, as transformers gives it to a conversation."""
    generate = pipeline("text-generation", model=str(folder), device="cpu", dtype=torch.float32)
    [found] = generate(ASKED, do_sample=False, max_new_tokens=12)
    return str(found["generated_text"][-1]["content"])


def said_by_the_engine(model: LanguageModel) -> str:
    """The same as it is served; closes the model."""
    generator = Generator(model)

    async def run() -> str:
        prompt = await generator.prompts.encode_chat(ASKED)
        return (await whole_answer(generator.start(prompt, Sampling(12, temperature=0)))).text

    try:
        return asyncio.run(run())
    finally:
        generator.close()


@pytest.mark.parametrize("tuning", ["lora", "qlora"])
def test_adapter_and_merged_model_say_the_same(tuning: str, tmp_path: Path, tiny_llm: Path, chats: Path) -> None:
    attempt = LlmAttempt(tmp_path, tiny_llm, chats)
    manifest = attempt.run(tuning=tuning, output="both")
    adapted = PeftModel.from_pretrained(whole(tiny_llm), attempt.out / "adapter")
    assert torch.allclose(logits(adapted), logits(whole(attempt.out)), atol=1e-5)
    served = LanguageModel.load(attempt.out / "adapter", base_dir=tiny_llm)
    assert torch.allclose(logits(adapted), logits(served.model), atol=1e-5)
    assert said_by_the_pipeline(attempt.out) == said_by_the_engine(LanguageModel.load(attempt.out))
    served.close()
    assert not torch.allclose(logits(whole(tiny_llm)), logits(whole(attempt.out)), atol=1e-2)
    assert manifest.base is None
    assert AutoTokenizer.from_pretrained(attempt.out).chat_template


def test_an_adapter_names_its_base_by_reference_and_digest(tmp_path: Path, tiny_llm: Path, chats: Path) -> None:
    attempt = LlmAttempt(tmp_path, tiny_llm, chats)
    attempt.run()
    manifest = read_manifest(attempt.out)
    assert (manifest.base, manifest.task) == (BASE, "text-generation")
    assert {file.path for file in manifest.files} >= {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    assert not (attempt.out / "config.json").exists()
    config = json.loads((attempt.out / "adapter_config.json").read_bytes())
    # As peft loads it: AutoPeftModelForCausalLM finds the base with a name and a revision.
    assert f"{config['base_model_name_or_path']}@{config['revision']}" == BASE.reference
    assert str(tiny_llm) not in "".join(path.read_text() for path in attempt.out.glob("*.json"))


def test_full_tuning_leaves_a_whole_model(tmp_path: Path, tiny_llm: Path, chats: Path) -> None:
    attempt = LlmAttempt(tmp_path, tiny_llm, chats)
    attempt.run(tuning="full", training={"learning_rate": 1e-3})
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_llm, attempt.out))
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_training_goes_on_with_a_registered_adapter(tmp_path: Path, tiny_llm: Path, chats: Path, pairs: Path) -> None:
    first = LlmAttempt(tmp_path / "sft", tiny_llm, chats)
    sft = first.run(lora={"rank": 3})
    second = LlmAttempt(tmp_path / "dpo", first.out, pairs, models={"model.base": tiny_llm})
    dpo = second.run(objective="dpo", output="both")
    assert dpo.metrics["validation/reward_accuracy"] >= 0.5
    adapters = [load_file(path / "adapter_model.safetensors") for path in (first.out, second.out / "adapter")]
    assert {n: t.shape for n, t in adapters[0].items()} == {n: t.shape for n, t in adapters[1].items()}
    adapted = PeftModel.from_pretrained(whole(tiny_llm), second.out / "adapter")
    assert torch.allclose(logits(adapted), logits(whole(second.out)), atol=1e-4)
    assert sft.base == BASE
    again = LlmAttempt(tmp_path / "full", first.out, chats, models={"model.base": tiny_llm})
    assert again.run(tuning="full", training={"learning_rate": 1e-3}).base is None


def test_the_report_says_whether_it_helped_and_shows_answers_side_by_side(
    tmp_path: Path, tiny_llm: Path, chats: Path, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = LlmAttempt(tmp_path, tiny_llm, chats)
    with caplog.at_level(logging.INFO):
        manifest = attempt.run(training={"epochs": 6}, validation={"fraction": 0.3})
    report = manifest.report
    verdict = report["verdict"]
    assert [system["system"] for system in verdict["systems"]] == ["fine-tuned", "base model"]
    own, base = verdict["systems"]
    assert own["low"] <= own["value"] <= own["high"] < base["value"]
    assert verdict["helped"] == "yes" and verdict["sentence"].startswith("Fine-tuning helped")
    assert verdict["difference"]["high"] < 0
    assert report["rows"] == {"train": 15, "validation": 7, "in_both": 0, "choosing_too": 0, "left_out": 0, "cut": 0}
    forgetting = report["forgetting"]
    assert forgetting["before"]["texts"] == len(NEUTRAL_TEXTS) == forgetting["after"]["texts"]
    assert forgetting["change"]["low"] <= manifest.metrics["neutral/forgotten"] <= forgetting["change"]["high"]
    assert manifest.metrics["neutral/perplexity"] != manifest.metrics["neutral/perplexity_before"]
    assert forgetting["sentence"] in (attempt.out / "README.md").read_text()
    (sample,) = report["samples"]
    assert sample.keys() == {"prompt", "reference", "base", "result"}
    assert len(report["examples"]) == 3
    assert "«" in report["examples"][0]["conversation"] and report["examples"][0]["conversation"] in caplog.text
    assert verdict["sentence"] in (attempt.out / "README.md").read_text()
    assert_told_again(attempt.out)


def test_preferences_are_judged_by_their_margin(tmp_path: Path, tiny_llm: Path, pairs: Path) -> None:
    manifest = LlmAttempt(tmp_path, tiny_llm, pairs).run(
        objective="orpo", validation={"fraction": 0.3}, training={"epochs": 6, "orpo_lambda": 1.0}
    )
    rewards = manifest.report["verdict"]["rewards"]
    assert rewards["margin"]["low"] > 0 and manifest.report["verdict"]["helped"] == "yes"
    assert manifest.metrics["validation/reward_accuracy"] == rewards["accuracy"]["value"] > 0.5
    assert_told_again(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"| reward margin | {rewards['margin']['value']:+.3f} |" in card
    assert f"| kept better than by the base model | {rewards['accuracy']['value']:.1%} |" in card


def test_rows_of_test_judge_and_those_of_validation_choose_the_weights(tmp_path: Path, tiny_llm: Path) -> None:
    parts = ["train"] * 14 + ["dev"] * 4 + ["test"] * 4
    rows = [{**row, "part": part} for row, part in zip(conversations(), parts, strict=True)]
    rows[14]["messages"][0]["content"] = "why? " * 40  # its answer begins beyond the length
    attempt = LlmAttempt(tmp_path, tiny_llm, write_jsonl(tmp_path / "chats.jsonl", rows))
    manifest = attempt.run(
        validation={"column": "part", "values": ["dev"]},
        test={"column": "part", "values": ["test"]},
        training={"epochs": 1, "keep_best": True},
    )
    counted = {name: manifest.report["rows"][name] for name in ("train", "validation", "test", "left_out")}
    assert counted == {"train": 14, "validation": 3, "test": 4, "left_out": 1}
    looks = {event.value for event in attempt.events if event.type == "metric" and event.name == "validation/loss"}
    assert looks and manifest.metrics["test/loss"] not in looks
    assert manifest.report["training"]["rows_choosing"] == 3
    card = (attempt.out / "README.md").read_text(encoding="utf-8")
    assert "3 rows of `validation` (`part` is `dev`) did neither" in card and "flatter" not in card
    assert "3 validation rows decided which weights are kept." in card and "when to end" not in card
    assert_told_again(attempt.out)
    assert sorted(Kept(attempt.out)["row"]) == [19, 20, 21, 22]


def test_only_what_the_assistant_says_is_learnt_unless_all_is_wanted(
    tmp_path: Path, tiny_llm: Path, chats: Path
) -> None:
    answers = LlmAttempt(tmp_path / "answers", tiny_llm, chats).run().report["training"]
    everything = LlmAttempt(tmp_path / "all", tiny_llm, chats).run(training={"loss_on": "all"}).report["training"]
    assert answers["tokens"] == everything["tokens"]
    # The first token of a row has nothing before it that could predict it.
    assert everything["tokens_supervised"] == everything["tokens"] - 20
    said = [row["messages"][1]["content"].strip() for row in conversations()]
    assert answers["tokens_supervised"] < everything["tokens_supervised"] / 2
    assert answers["tokens_supervised"] >= sum(len(text) for text in said) - 2 * max(len(text) for text in said)


def test_long_texts_are_cut_into_pieces_for_continued_training(tmp_path: Path, tiny_llm: Path) -> None:
    data = write_jsonl(tmp_path / "texts.jsonl", [{"text": f"{n} of many words " * 9} for n in range(6)])
    attempt = LlmAttempt(tmp_path / "run", tiny_llm, data)
    manifest = attempt.run(objective="pretrain", data={"text": "{text}"})
    assert_told_again(attempt.out)
    kept = Kept(attempt.out)
    assert len(set(kept["row"])) == 1 and kept["piece"].tolist() == list(range(kept.table.num_rows)) != [0]
    assert manifest.report["rows"]["train"] == 5
    assert manifest.report["training"]["tokens"] > 5 * 140


def test_answers_beyond_the_length_are_left_out_and_counted(tmp_path: Path, tiny_llm: Path) -> None:
    rows = conversations()
    rows[3]["messages"][0]["content"] = "why? " * 40
    data = write_jsonl(tmp_path / "chats.jsonl", rows)
    assert LlmAttempt(tmp_path / "run", tiny_llm, data).run().report["rows"]["left_out"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora": {"target_modules": ["no_such_layer"]}}, "there is no linear layer no_such_layer; there are"),
        ({"lora": {"target_modules": ["lm_head"]}}, "put it into lora.modules_to_save"),
    ],
)
def test_layers_that_cannot_be_adapted_are_named(
    changes: dict[str, Any], message: str, tmp_path: Path, tiny_llm: Path, chats: Path
) -> None:
    with pytest.raises(RunFailed, match=message) as failure:
        LlmAttempt(tmp_path, tiny_llm, chats).run(**changes)
    assert failure.value.reason is Reason.invalid_model


@pytest.mark.parametrize("change", [{"peft_type": "IA3"}, {"target_modules": ["down_proj"]}, {"r": 5}])
def test_an_adapter_that_does_not_fit_is_refused(
    change: dict[str, Any], tmp_path: Path, tiny_llm: Path, chats: Path
) -> None:
    first = LlmAttempt(tmp_path / "first", tiny_llm, chats)
    first.run()
    config = json.loads((first.out / "adapter_config.json").read_bytes())
    (first.out / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(RunFailed, match="adapter") as failure:
        LlmAttempt(tmp_path / "second", first.out, chats, models={"model.base": tiny_llm}).run()
    assert failure.value.reason is Reason.invalid_model


def test_the_head_may_be_trained_whole_beside_the_adapter(tmp_path: Path, tiny_llm: Path, chats: Path) -> None:
    attempt = LlmAttempt(tmp_path, tiny_llm, chats)
    attempt.run(output="both", lora={"modules_to_save": ["lm_head"], "dora": True, "rslora": True})
    head = load_file(attempt.out / "model.safetensors")["lm_head.weight"]
    assert not torch.equal(head, load_file(tiny_llm / "model.safetensors")["lm_head.weight"])
    adapted = PeftModel.from_pretrained(whole(tiny_llm), attempt.out / "adapter")
    assert torch.allclose(logits(adapted), logits(whole(attempt.out)), atol=1e-4)
