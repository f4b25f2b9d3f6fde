"""Runs `quantize`: prepare, quantize, measure what it costs, compare in its engine, save."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from transformers import PreTrainedModel

from jobspecs.events import MetricEvent
from jobspecs.kinds.quantize import Quantize
from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest
from jobspecs.tasks import TEXT_GENERATION
from workers.engines.embedded.generation.language_model import LanguageModel
from workers.judging.parity import Cost, cost_of, logits_of, sums_of
from workers.local_models.devices import prepare_device
from workers.parity.sides import EmbeddedSide
from workers.quantizing.comparing import compared
from workers.quantizing.interface import Order, Scheme, check_installed
from workers.quantizing.registry import SCHEMES
from workers.quantizing.reporting import Outcome
from workers.quantizing.source import prepare_source
from workers.quantizing.texts import Texts, load_texts
from workers.run.context import RunContext, RunFailed
from workers.run.stages import Stages, progress_of
from workers.training.saving import save_model


def run(context: RunContext) -> Manifest:
    """Quantizes, measures and saves. Raises RunFailed and RunStopped; what was stopped begins anew."""
    # Beside the output: on the disk that the job's files are meant for.
    with tempfile.TemporaryDirectory(prefix="quantize-", dir=context.output_dir.parent) as scratch:
        return _run(context, Path(scratch))


def _run(context: RunContext, scratch: Path) -> Manifest:
    spec = context.spec_as(Quantize)
    stages = Stages(context)
    stages.enter("prepare")
    prepare_device()
    scheme = _scheme(spec)
    source = prepare_source(context, scratch / "source")
    side = EmbeddedSide(LanguageModel.load(source.folder, torch.get_num_threads()))
    texts = load_texts(context, spec, side.model.tokenizer, context.check_stop)

    stages.enter("quantize")
    output = scratch / "model"
    output.mkdir()
    written = scheme.write(Order(spec, source.folder, texts.calibration, output, context.check_stop))

    stages.enter("measure")
    made = scheme.load(output)
    cost = _cost(context, side, made, texts)

    stages.enter("compare")
    comparison, speed = compared(spec, side, output, made, scratch, context.check_stop)
    side.close()

    stages.enter("save")
    outcome = Outcome(
        spec=spec,
        source=context.origins["model"].reference if "model" in context.origins else spec.model,
        written=written,
        bytes=_weight_bytes(output),
        source_bytes=source.bytes,
        cost=cost,
        comparison=comparison,
        tokens_per_s=speed,
    )
    for name, value in outcome.metrics.items():
        context.emit(MetricEvent(name=name, value=value))
    manifest = save_model(
        context.output_dir,
        lambda folder: _move(output, folder),
        card=outcome.card,
        task=TEXT_GENERATION.name,
        metrics=outcome.metrics,
        report={**outcome.report, "seconds": dict(stages.seconds)},
        datasets=context.datasets,
        libraries=written.libraries,
        verification=comparison.verification,
    )
    stages.close()
    return manifest


def _move(files: Path, folder: Path) -> None:
    for path in sorted(files.iterdir()):
        shutil.move(path, folder / path.name)


def _scheme(spec: Quantize) -> Scheme:
    scheme = SCHEMES.get(spec.family)
    if scheme is None:
        raise RunFailed(Reason.unsatisfiable, f"this worker has no {spec.family}.")
    check_installed(spec.family, scheme)
    return scheme


def _cost(context: RunContext, side: EmbeddedSide, made: PreTrainedModel, texts: Texts) -> Cost:
    done = progress_of(context, "measure", len(texts.held_out))
    try:
        sums = sums_of(logits_of(side.model.model), logits_of(made), texts.held_out, done)
    except ValueError as error:
        raise RunFailed(Reason.invalid_model, f"what was made can't be used: {error}") from error
    return cost_of(sums, context.check_stop)


def _weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in (".safetensors", ".gguf"))
