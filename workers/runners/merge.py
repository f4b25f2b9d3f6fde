"""Runs `merge`: compare, merge, validate, save."""

from __future__ import annotations

from contextlib import ExitStack, closing

from corpus.markdown import Section, Table, card
from jobspecs.events import LogEvent, MetricEvent
from jobspecs.kinds.merge import Merge
from jobspecs.manifest import Manifest
from jobspecs.model_tasks import task_of_model
from workers.local_models.devices import prepare_device
from workers.merging.comparison import differences
from workers.merging.folder import check_loads, check_parent, write_beside_weights
from workers.merging.merging import write_merged, written_shape
from workers.merging.plan import MergePlan, Mixture, Parent, check_nothing_left
from workers.merging.weights import ModelWeights
from workers.run.context import RunContext
from workers.run.stages import Stages, progress_of
from workers.training.saving import save_model


def run(context: RunContext) -> Manifest:
    """A model of others' weights. Raises RunFailed(invalid_model, disk_full) and RunStopped."""
    spec = context.spec_as(Merge)
    stages = Stages(context)
    stages.enter("compare")
    prepare_device()
    folders = {text: context.models[role] for role, text in spec.model_references().items()}
    configs = {text: check_parent(folder, text) for text, folder in folders.items()}
    with ExitStack() as opened:
        weights = {text: opened.enter_context(closing(ModelWeights(folder))) for text, folder in folders.items()}
        parents = {text: Parent.of(text, configs[text], one.tensors) for text, one in weights.items()}
        plan = MergePlan(spec, parents)
        check_nothing_left(plan, spec, parents)
        noticed = differences(folders, configs, spec.leading_model)
        for sentence in noticed:
            context.emit(LogEvent(level="warning", message=sentence))

        stages.enter("merge")
        after_each = progress_of(context, "merge", len(plan.mixtures))
        bytes_total = write_merged(spec, plan, weights, context.output_dir, after_each)

    stages.enter("validate")
    leading, dtype = spec.leading_model, str(written_shape(spec, _largest(plan)).dtype).removeprefix("torch.")
    named = spec.tokenizer_source
    tokenizer = folders[leading if named in (None, "base") else str(named)]
    layers = plan.source_layers if spec.slices is not None else None
    write_beside_weights(context.output_dir, folders[leading], tokenizer, configs[leading], dtype=dtype, layers=layers)
    check_loads(context.output_dir)

    stages.enter("save")
    metrics = {"merge/models": float(len(folders)), "merge/tensors": float(len(plan.mixtures))}
    for name, value in metrics.items():
        context.emit(MetricEvent(name=name, value=value))
    paths = {path.relative_to(context.output_dir).as_posix() for path in context.output_dir.rglob("*")}
    manifest = save_model(
        context.output_dir,
        lambda folder: None,
        card=_card(context, spec, noticed),
        task=task_of_model(configs[leading], paths),
        metrics=metrics,
        report={
            "merged": {"method": spec.method, "models": _named(context, spec), "bytes": bytes_total, "dtype": dtype},
            "differences": noticed,
            "seconds": dict(stages.seconds),
        },
    )
    stages.close()
    return manifest


def _largest(plan: MergePlan) -> Mixture:
    return max(plan.mixtures, key=lambda mixture: mixture.shape.bytes * mixture.shape.dtype.is_floating_point)


def _named(context: RunContext, spec: Merge) -> list[str]:
    """The models by owner, name and version."""
    return [
        context.origins[role].reference if role in context.origins else text
        for role, text in spec.model_references().items()
    ]


def _card(context: RunContext, spec: Merge, noticed: list[str]) -> str:
    told = spec.model_dump_json(indent=2, exclude_defaults=True, exclude={"kind", "name", "resources", "priority"})
    models = list(zip(_named(context, spec), spec.model_references(), strict=True))
    return card(
        spec.name,
        f"A merge of {len(models)} models by `{spec.method}`, computed from their weights; nothing was trained.",
        [
            Section("Models", (Table(("model", "place in the spec"), models),)),
            *([Section("Differences", tuple(noticed))] if noticed else []),
            Section("Method", (f"```json\n{told}\n```",)),
        ],
    )
