"""What a run leaves behind: an adapter, a merged model or both, and the card that says how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from corpus.markdown import Section, Table, card
from jobspecs.kinds.finetune_llm import FinetuneLlm
from workers.judging.llm_verdict import LlmVerdict
from workers.local_models.adapters import CONFIG_NAME, load_adapter, merged, write_adapter
from workers.local_models.base_model import load_causal_lm
from workers.training.llm.starting import Start
from workers.training.model_card import how_held_out, settings_table, trained_on

#: Folder of the adapter beside a merged model.
ADAPTER_FOLDER = "adapter"
#: Characters of a prompt or an answer that a card shows.
_SHOWN_CHARS = 600


def write_result(folder: Path, start: Start, spec: FinetuneLlm, template: str, base_reference: str) -> None:
    """Weights, configuration, tokenizer and chat template, as `spec.output` wants them. Uses the model up."""
    model, saved_as = start.decoder.model.cpu(), spec.saved_as
    if saved_as != "merged":
        write_adapter(model, folder if saved_as == "adapter" else folder / ADAPTER_FOLDER, base_reference)
    if saved_as != "adapter":
        _write_whole(_whole(model, start, spec, folder), folder)
    tokenizer = start.loaded.tokenizer
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def _whole(model: nn.Module, start: Start, spec: FinetuneLlm, folder: Path) -> PreTrainedModel:
    """The model without wrapper, in full precision: 4-bit weights are no place to add an adapter to."""
    if spec.tuning == "full":
        return start.decoder.inner
    if spec.tuning == "lora":
        return merged(model)
    beside = folder / ADAPTER_FOLDER
    kept = (beside / CONFIG_NAME).is_file()
    if not kept:
        write_adapter(model, beside, "")
    whole = merged(load_adapter(load_causal_lm(start.base_dir).model, beside))
    if not kept:
        for path in beside.iterdir():
            path.unlink()
        beside.rmdir()
    return whole


def _write_whole(model: PreTrainedModel, folder: Path) -> None:
    model.set_attn_implementation("sdpa")
    model.config.architectures = [type(model).__name__]
    model.config.use_cache = True
    if model.dtype is not torch.float32:
        model.to(model.dtype)
    model.save_pretrained(folder)


def llm_card(
    spec: FinetuneLlm,
    verdict: LlmVerdict,
    samples: Sequence[dict[str, str]],
    rows: dict[str, int],
    base_reference: str,
    ended: str,
) -> str:
    """README.md; `ended`: how training ended. Depends on inputs and results only."""
    systems = [
        (
            system["system"],
            f"{system['value']:.4f}",
            f"{system['low']:.4f} to {system['high']:.4f}",
            f"{system['perplexity']:.2f}",
        )
        for system in verdict.as_json()["systems"]
    ]
    choosing = 0 if spec.judging_part == "validation" else rows["validation"]
    tuning = "all weights" if spec.tuning == "full" else f"{spec.tuning} of rank {spec.lora.rank}"
    sections = [
        Section(
            "Verdict",
            (
                verdict.sentence,
                *_rewards(verdict),
                Table(("system", "loss (nats per token)", "95 % interval", "perplexity"), systems),
                f"Measured on {rows[spec.judging_part]} held-out rows ({how_held_out(spec.judging_rows)}), "
                f"{trained_on(spec, rows['train'], rows['train'] + choosing, rows['choosing_too'])} "
                f"{rows['in_both']} of the held-out rows "
                "also occur in the training part." + _chosen_by_them(spec),
            ),
        ),
        Section("Samples", tuple(part for sample in samples for part in _sample(sample)) or ("None were asked for.",)),
        Section("Training", (settings_table(spec.training), ended, *_adapter_part(spec))),
        Section("Use", (_usage(spec, base_reference),)),
    ]
    return card(
        spec.name,
        f"A language model trained with {spec.objective} ({tuning}) from `{spec.model}` on `{spec.dataset}`.",
        sections,
    )


def _rewards(verdict: LlmVerdict) -> list[Table]:
    """What the verdict over preferences is about; nothing for other objectives."""
    margin, accuracy = verdict.reward_margin, verdict.reward_accuracy
    if margin is None or accuracy is None:
        return []
    rows = [
        ("reward margin", f"{margin.value:+.3f}", f"{margin.low:+.3f} to {margin.high:+.3f}"),
        ("kept better than by the base model", f"{accuracy.value:.1%}", f"{accuracy.low:.1%} to {accuracy.high:.1%}"),
    ]
    return [Table(("held-out preferences", "value", "95 % interval"), rows)]


def _chosen_by_them(spec: FinetuneLlm) -> str:
    """What a reader must know where the rows that judge have had a say in the result."""
    if spec.judging_part == "test" or not spec.training.looks:
        return ""
    return " They also decided when training ended or whose weights were kept, so these figures flatter it a little."


def _adapter_part(spec: FinetuneLlm) -> tuple[Table, ...]:
    if spec.tuning == "full":
        return ()
    return (Table(("adapter", "value"), [(name, str(value)) for name, value in spec.lora.model_dump().items()]),)


def _sample(sample: dict[str, str]) -> list[str | Table]:
    names = {"prompt": "prompt", "reference": "data set", "base": "base model", "result": "fine-tuned"}
    return [Table(("", "text"), [(title, sample[name][:_SHOWN_CHARS]) for name, title in names.items()])]


def _usage(spec: FinetuneLlm, base_reference: str) -> str:
    if spec.saved_as == "adapter":
        lines = [
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM",
            "",
            f'base = AutoModelForCausalLM.from_pretrained("path/to/base")  # {base_reference}',
            'model = PeftModel.from_pretrained(base, "path/to/this/folder")',
        ]
    else:
        lines = [
            "from transformers import pipeline",
            "",
            'answer = pipeline("text-generation", model="path/to/this/folder")',
        ]
    return "\n".join(["```python", *lines, "```"])


def report_of(
    spec: FinetuneLlm, verdict: LlmVerdict, facts: dict[str, Any], samples: Sequence[dict[str, str]]
) -> dict[str, Any]:
    """The manifest's report: verdict first, then what the page of the job shows."""
    return {
        "verdict": verdict.as_json(),
        "objective": spec.objective,
        "tuning": spec.tuning,
        "output": spec.saved_as,
        "samples": list(samples),
        **facts,
    }
