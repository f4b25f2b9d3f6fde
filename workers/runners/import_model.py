"""Runs `import-model`: a GGUF becomes safetensors, compared with the file; safetensors are taken as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from corpus.markdown import Section, Table, card
from jobspecs.events import LogEvent, MetricEvent
from jobspecs.kinds.import_model import ImportModel
from jobspecs.lifecycle import Reason
from jobspecs.manifest import MANIFEST_NAME, Manifest
from jobspecs.model_tasks import task_of_model
from jobspecs.tasks import TEXT_GENERATION
from workers.local_models.devices import prepare_device
from workers.local_models.gguf_model import GgufModel, Parity, compare, finite_logits, load_gguf, write_language_model
from workers.run.context import RunContext, RunFailed
from workers.run.stages import Stages
from workers.training.saving import save_model


def run(context: RunContext) -> Manifest:
    """Converts, compares and saves. Raises RunFailed(invalid_model) for what can't be converted, and RunStopped."""
    spec = context.spec_as(ImportModel)
    stages = Stages(context)
    stages.enter("prepare")
    prepare_device()
    file = _gguf_file(context.base, spec.file)
    if file is None:
        return _taken_over(context, spec, stages)

    stages.enter("convert")
    converted = load_gguf(file, spec.dtype)

    stages.enter("validate")
    parity = compare(converted, file)
    if parity.different or not finite_logits(converted):
        what = f"{parity.different[0]} differs from the file" if parity.different else "the logits are not finite"
        raise RunFailed(Reason.invalid_model, f"the conversion of {file.name} came out wrong: {what}.")
    metrics = {
        "parity/tensors_compared": float(parity.compared),
        "parity/tensors_equal": float(parity.equal),
        "parity/tensors_reordered": float(parity.reordered),
    }
    for name, value in metrics.items():
        context.emit(MetricEvent(name=name, value=value))

    stages.enter("save")
    report = {"source": _source(context), "file": file.name, "stored_as": converted.stored_as, "facts": converted.facts}
    manifest = save_model(
        context.output_dir,
        lambda folder: write_language_model(folder, converted.model, converted.tokenizer),
        card=_card(spec, _source(context), file.name, converted, parity),
        task=TEXT_GENERATION.name,
        metrics=metrics,
        report={**report, "verdict": _verdict(parity), "seconds": dict(stages.seconds)},
        libraries=("gguf",),
    )
    stages.close()
    return manifest


def _taken_over(context: RunContext, spec: ImportModel, stages: Stages) -> Manifest:
    """A safetensors model: its files, unchanged, under a name of the registry."""
    if spec.file is not None or spec.dtype != "fp32":
        context.emit(
            LogEvent(level="warning", message="The model has no GGUF: it is taken as it is, in its own dtype.")
        )
    config: dict[str, Any] = json.loads((context.base / "config.json").read_bytes())
    paths = {path.relative_to(context.base).as_posix() for path in context.base.rglob("*") if path.is_file()}
    stages.enter("save")

    def copy(folder: Path) -> None:
        for path in sorted(paths - {MANIFEST_NAME}):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(context.base / path, folder / path)

    text = card(spec.name, f"The files of `{_source(context)}`, unchanged.", [])
    manifest = save_model(
        context.output_dir,
        copy,
        card=text,
        task=task_of_model(config, paths),
        metrics={},
        report={"source": _source(context), "seconds": dict(stages.seconds)},
    )
    stages.close()
    return manifest


def _gguf_file(folder: Path, name: str | None) -> Path | None:
    """The one that was named, or the only one. None: there is none, and none was asked for."""
    found = sorted(folder.glob("*.gguf"))
    known = ", ".join(path.name for path in found) or "none"
    if name is not None:
        if folder / name not in found:
            raise RunFailed(Reason.invalid_model, f"the model has no file {name}; its GGUF files: {known}.")
        return folder / name
    if len(found) > 1:
        raise RunFailed(Reason.invalid_model, f"the model has several GGUF files; name one as `file`: {known}.")
    return found[0] if found else None


def _source(context: RunContext) -> str:
    origin = context.origins.get("model")
    return origin.reference if origin else context.spec_as(ImportModel).model


def _verdict(parity: Parity) -> dict[str, Any]:
    sentence = (
        f"The conversion is faithful: of {parity.compared} weight matrices compared with the GGUF, {parity.equal} are "
        f"equal and {parity.reordered} hold the same values in transformers' order of rows."
    )
    share = (parity.equal + parity.reordered) / parity.compared if parity.compared else 0.0
    systems = [{"system": "converted", "value": share}]
    return {"sentence": sentence, "helped": "unclear", "metric": "share of matrices unchanged", "systems": systems}


def _card(spec: ImportModel, source: str, file_name: str, converted: GgufModel, parity: Parity) -> str:
    facts = [*converted.facts.items(), *((f"stored as {name}", str(n)) for name, n in converted.stored_as.items())]
    usage = (
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")\n'
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")\n```'
    )
    return card(
        spec.name,
        f"A language model converted from `{file_name}` of `{source}` to safetensors in {spec.dtype}. What the GGUF's "
        "quantization had lost stays lost: these are its values, dequantised.",
        [
            Section("Origin", (Table(("fact", "value"), facts),)),
            Section("Verdict", (str(_verdict(parity)["sentence"]),)),
            Section("Use", (usage,)),
        ],
    )
