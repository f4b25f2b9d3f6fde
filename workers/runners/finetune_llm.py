"""Runs `finetune-llm`: prepare, tokenize, baseline, train, validate, save."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from corpus.conversations.examples import Example
from corpus.conversations.rendering import Renderer
from jobspecs.events import MetricEvent
from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.manifest import Manifest, ModelOrigin, read_manifest
from workers.judging.held_out_file import Judged
from workers.judging.llm_verdict import LlmVerdict, judge
from workers.judging.perplexity import Perplexity
from workers.local_models.devices import prepare_device
from workers.run.context import RunContext
from workers.run.data_parts import data_parts, judging_dataset
from workers.run.stages import Stages, progress_of
from workers.training.batches import BatchPlan
from workers.training.joining import world_of
from workers.training.llm.forgetting import Forgetting, neutral_perplexity
from workers.training.llm.kept import kept_of
from workers.training.llm.preparing import LlmTask, Scorer, held_out_loss, judged, rows_of, scored, task_of
from workers.training.llm.results import llm_card, report_of, write_result
from workers.training.llm.rows import (
    Prompt,
    Rows,
    SplitExamples,
    load_examples,
    load_renderer,
    prompt_of,
    render,
    shown,
    turn_end,
)
from workers.training.llm.samples import answers, side_by_side
from workers.training.llm.scoring import Float64s
from workers.training.llm.sequences import same_in_both
from workers.training.llm.starting import Start, load_start, spread, trained_on_main
from workers.training.loop import Evaluation, Looked, TrainingResult, train
from workers.training.saving import save_model

_log = logging.getLogger(__name__)

#: Libraries that the manifest names, beside those of every model.
_LIBRARIES = {"full": (), "lora": ("peft",), "qlora": ("peft", "bitsandbytes")}
#: Rendered training examples that the job's page shows.
_EXAMPLES = 3
#: Evaluations of `keep_best` without `early_stopping`: this many over the whole run.
_EVALUATIONS = 10


@dataclass(frozen=True)
class _Outcome:
    """What training came to; `samples`: answers of base and result side by side."""

    verdict: LlmVerdict
    forgetting: Forgetting
    result: TrainingResult
    samples: list[dict[str, str]]
    kept: Judged


@dataclass
class _Run:
    """One attempt, and what its stages hand on to each other."""

    context: RunContext
    spec: FinetuneLlm
    device: torch.device
    split: SplitExamples
    renderer: Renderer
    start: Start
    optimizer: Optimizer
    training: Rows
    held_out: Rows
    #: Those of `validation`, where `test` judges and training looks at some.
    choosing: Rows | None
    examples: list[dict[str, Any]]

    def train(self, stages: Stages) -> _Outcome:
        """The stages baseline, train and validate."""
        context, spec, start = self.context, self.spec, self.start
        stages.enter("baseline")
        start.decoder.model.train(False)
        scorer = Scorer(start.decoder, spec, self.device)
        sequences = scored(self.held_out, spec)
        before = scorer(sequences, progress_of(context, "baseline", len(sequences)))
        remembered = self._neutral()
        prompts = [prompt_of(example, self.renderer) for example in self.split.validation[: spec.generation.examples]]
        base_answers = self._answers(prompts)
        measure = self._measure(scorer, before)
        task = task_of(self.training, spec, scorer, progress_of(context, "baseline", len(self.training)))

        stages.enter("train")
        result = self._fit(task, measure)

        stages.enter("validate")
        after = scorer(sequences, progress_of(context, "validate", len(sequences)))
        forgetting = Forgetting(remembered, self._neutral())
        samples = side_by_side(prompts, base_answers, self._answers(prompts))
        held_out, rewards = judged(self.held_out, spec, before, after)
        dataset = judging_dataset(context, spec)
        kept = kept_of(self.held_out, self.split.validation, spec, (before, after), rewards, dataset)
        return _Outcome(judge(held_out, rewards, context.check_stop), forgetting, result, samples, kept)

    def _neutral(self) -> Perplexity:
        decoder, loaded, stop = self.start.decoder, self.start.loaded, self.context.check_stop
        return neutral_perplexity(decoder, loaded.tokenizer, loaded.max_tokens, self.device, stop, stop)

    def _measure(self, scorer: Scorer, before: Float64s) -> Callable[[], float]:
        """What early stopping watches; `before`: log-probabilities of the rows that judge, by the base model."""
        spec, rows = self.spec, self.choosing or self.held_out
        sequences = scored(rows, spec)
        reference = before if self.choosing is None else scorer(sequences)
        return lambda: held_out_loss(rows, spec, reference, scorer(sequences))

    def _fit(self, task: LlmTask, measure: Callable[[], float]) -> TrainingResult:
        training = self.spec.training
        lengths = rows_of(self.training, self.spec)
        plan = BatchPlan(lengths, training.batch_size, training.epochs, training.seed, grouped=False)
        return train(
            self.context,
            task,
            plan,
            training,
            self.device,
            judged_later=len(self.held_out),
            evaluation=_evaluation(self.spec, plan.steps_total, measure, self._rows_choosing),
            optimizer=self.optimizer,
            world=self.start.decoder.world,
        )

    def _answers(self, prompts: Sequence[Prompt]) -> list[str]:
        decoder, loaded, check_stop = self.start.decoder, self.start.loaded, self.context.check_stop
        # The answer needs positions too: it gets half of them where the model has few.
        new_tokens = min(self.spec.generation.max_new_tokens, loaded.max_tokens // 2)
        longest = min(self.spec.training.max_length, loaded.max_tokens - new_tokens)
        ids = [prompt.ids[-longest:] for prompt in prompts]
        return answers(decoder, loaded.tokenizer, ids, new_tokens, self.device, check_stop)

    @property
    def _choosing_empty(self) -> int:
        return self.choosing.empty if self.choosing is not None else 0

    @property
    def _rows_choosing(self) -> int:
        return len(self.split.choosing) - self._choosing_empty

    def row_counts(self) -> dict[str, int]:
        """Of examples, before plain texts were cut into pieces."""
        return {
            "train": len(self.split.train) - self.training.empty,
            "validation": self._rows_choosing,
            self.spec.judging_part: len(self.split.validation) - self.held_out.empty,
            "in_both": same_in_both(self.training.sequences, self.held_out.sequences),
            "choosing_too": same_in_both(self.choosing.sequences, self.held_out.sequences) if self.choosing else 0,
            "left_out": self.training.empty + self.held_out.empty + self._choosing_empty + self.split.skipped,
            "cut": self.training.cut + self.held_out.cut + (self.choosing.cut if self.choosing is not None else 0),
        }


def run(context: RunContext) -> Manifest:
    """Trains, judges and saves. Raises RunFailed and RunStopped; an earlier attempt's checkpoint shortens `train`."""
    stages = Stages(context)
    current = _prepared(context, stages)
    spec, world = current.spec, current.start.decoder.world
    outcome = current.train(stages)
    metrics = _metrics(outcome.verdict, outcome.result, spec.judging_part) | outcome.forgetting.metrics()
    for name, value in metrics.items():
        context.emit(MetricEvent(name=name, value=value, step=outcome.result.steps))

    stages.enter("save")
    start, saves = trained_on_main(current.start, spec, context.base, context.models)
    manifest = _saved(current, start, outcome, metrics, stages) if saves else None
    world.wait()
    stages.close()
    return manifest or read_manifest(context.output_dir)


def _saved(current: _Run, start: Start, outcome: _Outcome, metrics: dict[str, float], stages: Stages) -> Manifest:
    context, spec = current.context, current.spec
    verdict, result, samples = outcome.verdict, outcome.result, outcome.samples
    rows = current.row_counts()
    base = context.origins.get(start.base_role) or ModelOrigin(reference=spec.model)
    facts = {
        "examples": current.examples,
        "rows": rows,
        "training": _training_facts(start, current.training, result),
        "forgetting": outcome.forgetting.as_json(),
        "seconds": dict(stages.seconds),
    }
    return save_model(
        context.output_dir,
        lambda folder: write_result(folder, start, spec, current.renderer.template.source, base.reference),
        card=llm_card(spec, verdict, outcome.forgetting.sentence, samples, rows, base.reference, result.sentence),
        datasets=context.datasets,
        task="text-generation",
        metrics=metrics,
        report=report_of(spec, verdict, facts, samples),
        judged=outcome.kept,
        base=base if spec.saved_as == "adapter" else None,
        libraries=_LIBRARIES[spec.tuning],
    )


def _prepared(context: RunContext, stages: Stages) -> _Run:
    """The stages prepare and tokenize."""
    spec = context.spec_as(FinetuneLlm)
    stages.enter("prepare")
    world = world_of(context.place)
    device = prepare_device()
    renderer = load_renderer(context.base, spec)
    split = load_examples(data_parts(context, spec), spec, renderer, context.check_stop)
    start, optimizer = spread(load_start(spec, context.base, context.models, device), spec, world)

    stages.enter("tokenize")
    max_length = min(spec.training.max_length, start.loaded.max_tokens)

    def rendered(rows: Sequence[Example]) -> Rows:
        return render(rows, renderer, spec, max_length, progress_of(context, "tokenize", len(rows)))

    training, held_out = rendered(split.train), rendered(split.validation)
    choosing = rendered(split.choosing) if split.choosing and spec.training.looks else None
    end = turn_end(split.train, renderer)
    if end is not None and end != start.loaded.tokenizer.eos_token:
        # A base model's own end of a text is not what its answers learn to end with: served, they would never stop.
        _log.info("answers end with %s; the result's tokenizer has it as its end of sequence", end)
        start.loaded.tokenizer.eos_token = end
    examples = shown(split.train, renderer, _EXAMPLES)
    for example in examples:
        for name, text in example.items():
            if name != "row":
                _log.info("row %s, %s: %s", example["row"], name, text)
    return _Run(context, spec, device, split, renderer, start, optimizer, training, held_out, choosing, examples)


def _evaluation(spec: FinetuneLlm, steps_total: int, measure: Callable[[], float], choosing: int) -> Evaluation | None:
    stopping, keep_best = spec.training.early_stopping, spec.training.keep_best
    if not spec.training.looks:
        return None
    every = stopping.every_steps if stopping else max(1, steps_total // _EVALUATIONS)
    patience = stopping.patience if stopping else None
    return Evaluation(
        every, measure, patience, keep_best, looked=Looked(choosing, given=True, ends=stopping is not None)
    )


def _metrics(verdict: LlmVerdict, result: TrainingResult, part: str) -> dict[str, float]:
    """Figures that an interrupted run repeats exactly; times belong to the report. `part`: whose rows judged."""
    metrics = {
        "train/loss": result.loss,
        f"{part}/loss": verdict.after.value,
        f"{part}/loss_low": verdict.after.low,
        f"{part}/loss_high": verdict.after.high,
        "baseline/loss": verdict.before.value,
    }
    if verdict.reward_margin is not None and verdict.reward_accuracy is not None:
        metrics[f"{part}/reward_margin"] = verdict.reward_margin.value
        metrics[f"{part}/reward_accuracy"] = verdict.reward_accuracy.value
    return metrics


def _training_facts(start: Start, training: Rows, result: TrainingResult) -> dict[str, Any]:
    parameters = list(start.decoder.model.parameters())
    return {
        **result.as_json(),
        "parameters_trained": sum(getattr(p, "ds_numel", p.numel()) for p in parameters if p.requires_grad),
        "tokens": int(training.sequences.lengths.sum()),
        "tokens_supervised": int(training.sequences.supervised.sum()),
        "packed": start.decoder.variant != "padded",
    }
