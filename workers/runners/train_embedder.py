"""Runs `train-embedder`: prepare, tokenize, train, validate, baseline, save."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from corpus.splits import VALIDATION
from jobspecs.data_report import CLASSES_SHOWN
from jobspecs.events import MetricEvent
from jobspecs.kinds.hard_negatives import NEGATIVES_ROLE
from jobspecs.kinds.train_embedder import Prompts, TrainEmbedder
from jobspecs.lifecycle import Reason
from jobspecs.manifest import Manifest
from workers.judging.embedding_verdict import BASE, TRAINED, Exam
from workers.judging.ranking_verdict import RankingVerdict
from workers.local_models.devices import move_to, prepare_device
from workers.local_models.embedding_model import EmbeddingModel, load_embedder, write_embedder
from workers.run.context import RunContext, RunFailed
from workers.run.data_parts import data_parts, judging_dataset
from workers.run.stages import Stages, progress_of
from workers.training.embedding.card import embedder_card
from workers.training.embedding.data import PROMPT_OF, EmbeddingRows, EmbeddingSplit, load_rows, prompted, split_rows
from workers.training.embedding.exam import exam_of
from workers.training.embedding.judging import judged
from workers.training.embedding.negatives import Mined, mine_negatives
from workers.training.embedding.training import EmbeddingTrainingData, train_embedder
from workers.training.hard_negatives import Side
from workers.training.loop import TrainingResult
from workers.training.saving import save_model

Vectors = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def run(context: RunContext) -> Manifest:
    """Trains, judges and saves. Raises RunFailed and RunStopped; an earlier attempt's checkpoint shortens `train`."""
    spec = context.spec_as(TrainEmbedder)
    stages = Stages(context)

    stages.enter("prepare")
    device = prepare_device()
    split = split_rows(load_rows(data_parts(context, spec), spec), spec)
    exam = exam_of(split, spec.validation.seed)
    model = _base(context, spec)
    prompts = _prompts(spec, model)
    fit, mined = _with_negatives(context, spec, split.fit, model, prompts, device)

    stages.enter("tokenize")
    data = _tokenized(context, prompts, fit, model, judged_later=len(exam.queries) + len(exam.candidates))

    stages.enter("train")
    result = train_embedder(context, model.network, data, spec, device)

    stages.enter("validate")
    vectors = _vectors(context, "validate", exam, model, prompts, spec)
    answers = {TRAINED: exam.answers(*_cut(vectors, model.dimensions), context.check_stop)}
    cut = _by_dimensions(context, spec, exam, vectors)
    by_dimensions = {dimensions: exam.value(found) for dimensions, found in cut.items()}

    stages.enter("baseline")
    untouched = _base(context, spec, trained=False)
    move_to(untouched.network, device)
    vectors = _vectors(context, "baseline", exam, untouched, prompts, spec)
    answers[BASE] = exam.answers(*_cut(vectors, untouched.dimensions), context.check_stop)
    training_texts = [split.train.texts[text] for text in np.unique(split.train.columns)]
    lexical, scores = exam.lexical_answers(training_texts, context.check_stop)
    answers[lexical] = scores
    verdict = exam.judge(answers, context.check_stop)
    metrics = _metrics(verdict, result, by_dimensions, spec.judging_part)
    for name, value in metrics.items():
        context.emit(MetricEvent(name=name, value=value, step=result.steps))

    stages.enter("save")
    manifest = save_model(
        context.output_dir,
        lambda folder: write_embedder(folder, model),
        card=embedder_card(spec, model, split, verdict, by_dimensions, result.sentence),
        datasets=context.datasets,
        task="sentence-similarity",
        metrics=metrics,
        report=_report(spec, split, mined, verdict, result, data, stages.seconds),
        judged=judged(exam, answers, cut, verdict.metric, spec.judging_part, judging_dataset(context, spec)),
        libraries=("sentence-transformers",),
    )
    stages.close()
    return manifest


def _base(context: RunContext, spec: TrainEmbedder, *, trained: bool = True) -> EmbeddingModel:
    """The embedder to train, with the prompts and dimensions of the spec; or the base as it is, to compare with."""
    settings = spec.training
    if not trained:
        return load_embedder(context.base, seed=settings.seed)
    model = load_embedder(
        context.base, seed=settings.seed, dropout=settings.dropout, pooling=spec.pooling, static=spec.static
    )
    own = model.network.dimensions
    asked = [*spec.matryoshka_dims, *([spec.truncate_dim] if spec.truncate_dim else [])]
    if asked and max(asked) > own:
        raise RunFailed(Reason.invalid_model, f"the base model has {own} dimensions; the spec asks for {max(asked)}.")
    if model.static and settings.freeze_embeddings:
        raise RunFailed(
            Reason.invalid_model, "the base model is a table of embeddings: freeze_embeddings leaves nothing to train."
        )
    model.max_tokens = min(settings.max_length, model.max_tokens)
    given = {name: prompt for name, prompt in spec.prompts.model_dump().items() if prompt}
    if given:
        model.prompts, model.default_prompt_name = given, "text" if "text" in given else None
    model.truncate_dim = spec.truncate_dim or model.truncate_dim
    return model


def _prompts(spec: TrainEmbedder, model: EmbeddingModel) -> Prompts:
    """The spec's, or those that the base has of its own: it will be served with them, so it is trained with them."""
    if any(spec.prompts.model_dump().values()):
        return spec.prompts
    return _own_prompts(model)


def _own_prompts(model: EmbeddingModel) -> Prompts:
    return Prompts(
        query=model.prompt_before("query"), passage=model.prompt_before("passage"), text=model.prompt_before("text")
    )


def _with_negatives(
    context: RunContext,
    spec: TrainEmbedder,
    fit: EmbeddingRows,
    model: EmbeddingModel,
    prompts: Prompts,
    device: torch.device,
) -> tuple[EmbeddingRows, Mined | None]:
    """The rows that train or choose with mined negatives, where the spec asks for them."""
    if spec.hard_negatives is None:
        return fit, None
    finder = load_embedder(context.models[NEGATIVES_ROLE]) if NEGATIVES_ROLE in context.models else model
    before = (prompts if finder is model else _own_prompts(finder)).model_dump()
    move_to(finder.network, device)

    def embed(texts: Sequence[str], prompt: Side) -> npt.NDArray[np.float32]:
        tokens = finder.tokenize([before[prompt] + text for text in texts])
        return finder.encode_tokens(tokens, after_batch=progress_of(context, "prepare", len(texts)))

    mined = mine_negatives(fit, embed, spec.hard_negatives, spec.training.seed)
    return mined.rows, mined


def _tokenized(
    context: RunContext, prompts: Prompts, fit: EmbeddingRows, model: EmbeddingModel, judged_later: int
) -> EmbeddingTrainingData:
    texts, places = prompted(fit, prompts)
    tokens = model.tokenize(texts, between_chunks=context.check_stop)
    return EmbeddingTrainingData(tokens, places, fit.columns, fit.targets, judged_later, fit.roles == VALIDATION)


def _vectors(
    context: RunContext, stage: str, exam: Exam, model: EmbeddingModel, prompts: Prompts, spec: TrainEmbedder
) -> Vectors:
    """Embeddings of all dimensions, not yet of length 1, of the exam's two sides, with their prompts."""
    sides = []
    for texts, field in zip((exam.queries, exam.candidates), exam.fields, strict=True):
        prompt = getattr(prompts, PROMPT_OF.get(field, "text"))
        tokens = model.tokenize([prompt + text for text in texts], spec.training.max_length)
        sides.append(
            model.encode_tokens(
                tokens,
                normalize=False,
                dimensions=model.network.dimensions,
                after_batch=progress_of(context, stage, len(texts)),
            )
        )
    return sides[0], sides[1]


def _cut(vectors: Vectors, dimensions: int) -> Vectors:
    """The first so many dimensions, of length 1."""
    first, second = (side[:, :dimensions] for side in vectors)
    return _of_length_1(first), _of_length_1(second)


def _of_length_1(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))


def _by_dimensions(
    context: RunContext, spec: TrainEmbedder, exam: Exam, vectors: Vectors
) -> dict[int, npt.NDArray[Any]]:
    """The answers when only the first so many dimensions are used."""
    wanted = sorted(spec.matryoshka_dims, reverse=True)
    return {dim: exam.answers(*_cut(vectors, dim), context.check_stop) for dim in wanted}


def _metrics(
    verdict: RankingVerdict, result: TrainingResult, by_dimensions: dict[int, float], part: str
) -> dict[str, float]:
    """Figures that an interrupted run repeats exactly; times belong to the report. `part`: whose rows judged."""
    trained, base, lexical = verdict.systems
    metrics = {
        "train/loss": result.loss,
        **{f"{part}/{name}": value for name, value in trained.measures.items()},
        f"{part}/{verdict.metric}_low": trained.low,
        f"{part}/{verdict.metric}_high": trained.high,
        **{f"base/{name}": value for name, value in base.measures.items()},
        **{f"baseline/{name}": value for name, value in lexical.measures.items()},
    }
    return metrics | {f"{part}/{verdict.metric}_dim{dim}": value for dim, value in by_dimensions.items()}


def _report(
    spec: TrainEmbedder,
    split: EmbeddingSplit,
    mined: Mined | None,
    verdict: RankingVerdict,
    result: TrainingResult,
    data: EmbeddingTrainingData,
    seconds: dict[str, float],
) -> dict[str, object]:
    negatives = {} if mined is None else {"mined": mined.mined, "drawn_by_chance": mined.drawn}
    return {
        "verdict": verdict.as_json(),
        "loss": spec.loss_name,
        "rows": {
            "train": len(split.train),
            "validation": len(split.fit) - len(split.train),
            spec.judging_part: len(split.validation),
            "rows_in_both": split.rows_in_both,
            "choosing_too": split.choosing_too,
            "overlap": split.overlap.model_dump(mode="json"),
            **negatives,
        },
        **_of_classes(split),
        "tokens_per_text": float(data.tokens.lengths.mean()),
        "training": result.as_json(),
        "seconds": dict(seconds),
    }


def _of_classes(split: EmbeddingSplit) -> dict[str, object]:
    """Classes that train, where there are some: how many, those with one text, and labels that were renamed."""
    if not split.train.classes:
        return {}
    return {
        "classes": {"train": split.twins.classes, "alone": list(split.twins.alone[:CLASSES_SHOWN])},
        "renamed_labels": dict(islice(split.train.renamed.items(), CLASSES_SHOWN)),
    }
