"""Runs `train-reranker`: prepare, perhaps mine, tokenize, train, validate, baseline, save."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from corpus.checks.findings import normalised
from corpus.rankings import RELEVANT_MIN, metric_of
from corpus.splits import VALIDATION
from jobspecs.events import MetricEvent
from jobspecs.kinds.hard_negatives import NEGATIVES_ROLE
from jobspecs.kinds.train_reranker import BI_ENCODER_ROLE, LISTWISE, RankingMetric, RerankerNegatives, TrainReranker
from jobspecs.manifest import Manifest
from workers.judging.bm25 import pair_scores
from workers.judging.ranking_verdict import RankingVerdict, judge_rankings, numbered
from workers.local_models.base_model import LoadedModel, load_scorer
from workers.local_models.devices import move_to, prepare_device
from workers.local_models.embedding_model import load_embedder
from workers.local_models.ranking_model import RankingModel
from workers.local_models.tokens import TokenTable, tokenize_pairs
from workers.run.context import RunContext
from workers.run.data_parts import data_parts, judging_dataset
from workers.run.stages import Stages, progress_of
from workers.training.hard_negatives import Embed, Floats, Side
from workers.training.loop import TrainingResult
from workers.training.ranking.card import ranking_card
from workers.training.ranking.data import Pairs, PairSplit, check_comparable, check_judged, load_pairs, split_by_query
from workers.training.ranking.judging import BI_ENCODER, BM25, KEYS, OWN, UNTOUCHED, judged
from workers.training.ranking.negatives import mine_negatives, pair_cosines, pool_candidates
from workers.training.ranking.training import RankingTrainingData, train_reranker, write_reranker
from workers.training.saving import save_model

#: Passages of BM25 and of the bi-encoder each that a held-out query with positives alone is judged by.
_POOLED_PER_SYSTEM = 10


def run(context: RunContext) -> Manifest:
    """Trains, judges and saves. Raises RunFailed and RunStopped; an earlier attempt's checkpoint shortens `train`."""
    spec = context.spec_as(TrainReranker)
    stages = Stages(context)

    stages.enter("prepare")
    device = prepare_device()
    split, metric = _split(context, spec)
    loaded = load_scorer(context.base, spec.training.seed, spec.training.dropout)

    if spec.mines_negatives:
        stages.enter("mine")
        split = _mined(context, spec, split, device)

    check_judged(split.validation, metric)
    if spec.loss_name in LISTWISE:
        check_comparable(split.train)

    stages.enter("tokenize")
    training_tokens = _tokenize(context, loaded, spec, split.fit)
    validation_tokens = _tokenize(context, loaded, spec, split.validation)

    stages.enter("train")
    fit, later = split.fit, len(split.validation)
    data = RankingTrainingData(training_tokens, fit.labels, fit.groups, later, fit.roles == VALIDATION)
    result = train_reranker(context, loaded, data, spec.loss_name, spec.training, device)

    stages.enter("validate")
    after_batch = progress_of(context, "validate", len(split.validation))
    scores = {OWN: RankingModel(loaded, device).score_tokens(validation_tokens, raw=True, after_batch=after_batch)}

    stages.enter("baseline")
    scores |= _baselines(context, spec, split.validation, validation_tokens, device)
    held_out = split.validation
    passages = numbered([normalised(passage) for passage in held_out.passages])
    verdict = judge_rankings(held_out.labels, held_out.groups, passages, scores, metric, context.check_stop)
    metrics = _metrics(verdict, result, spec.judging_part)
    for name, value in metrics.items():
        context.emit(MetricEvent(name=name, value=value, step=result.steps))

    stages.enter("save")
    manifest = save_model(
        context.output_dir,
        lambda folder: write_reranker(folder, loaded, spec.training.max_length),
        card=ranking_card(spec, split, verdict, result.sentence),
        datasets=context.datasets,
        task="text-ranking",
        metrics=metrics,
        report=_report(spec, split, verdict, result, training_tokens, stages.seconds),
        judged=judged(held_out, passages, scores, metric, spec.judging_part, judging_dataset(context, spec)),
        libraries=("sentence-transformers", "bm25s"),
    )
    stages.close()
    return manifest


def _split(context: RunContext, spec: TrainReranker) -> tuple[PairSplit, RankingMetric]:
    """The pairs that train and those that judge, the latter with the labels to judge by; split by query alone.

    And what decides the verdict: the spec, or the whole data set's shape, never what the seed happens to hold out.
    """
    parts = data_parts(context, spec)
    pairs = judging = load_pairs(parts, spec)
    split = split_by_query(pairs, spec)
    if spec.judge is not None:
        judging = load_pairs(parts, spec.judging)
        split = replace(split, validation=split_by_query(judging, spec.judging).validation)
    if spec.metric != "auto":
        return split, spec.metric
    # Where the data hold positives alone, other passages are judged beside them.
    return split, "ndcg_at_10" if spec.positive is not None else metric_of(judging.labels, judging.groups)


def _mined(context: RunContext, spec: TrainReranker, split: PairSplit, device: torch.device) -> PairSplit:
    """Negatives for the training part; candidates to judge by where the data hold positives alone.

    Training sees no passage that judges: as a negative it would be learnt to be wrong.
    """
    settings = spec.hard_negatives or RerankerNegatives()
    role = NEGATIVES_ROLE if settings.model is not None else BI_ENCODER_ROLE
    training = list(dict.fromkeys(split.fit.passages))
    fit = mine_negatives(split.fit, training, _embedder(context, role, device), settings, spec.training.seed)
    train = fit.subset(np.flatnonzero(fit.roles != VALIDATION))
    validation = split.validation
    if spec.positive is not None and spec.negative is None:
        corpus = list(dict.fromkeys(fit.passages + validation.passages))
        embed = _embedder(context, BI_ENCODER_ROLE, device)
        validation = pool_candidates(validation, corpus, embed, _POOLED_PER_SYSTEM, context.check_stop)
    return replace(split, train=train, validation=validation, fit=fit)


def _baselines(
    context: RunContext, spec: TrainReranker, pairs: Pairs, tokens: TokenTable, device: torch.device
) -> dict[str, Floats]:
    """Scores (N,) of what the result must beat: the base where it can rank, the bi-encoder, BM25."""
    scores = _untouched(context, spec, tokens, device)
    scores[BI_ENCODER] = pair_cosines(pairs, _embedder(context, BI_ENCODER_ROLE, device))
    scores[BM25] = pair_scores(pairs.queries, pairs.passages, context.check_stop)
    return scores


def _untouched(context: RunContext, spec: TrainReranker, tokens: TokenTable, device: torch.device) -> dict[str, Floats]:
    """The base's scores, where it can rank. A function of its own: the model is gone before the next one is loaded."""
    base = load_scorer(context.base, spec.training.seed)
    if not base.has_head:
        return {}
    return {UNTOUCHED: RankingModel(base, device).score_tokens(tokens, raw=True, after_batch=context.check_stop)}


def _embedder(context: RunContext, role: str, device: torch.device) -> Embed:
    """The embedder in this role; the base model, mean-pooled where it has no pooling of its own, when there is none."""
    model = load_embedder(context.models.get(role, context.base))
    move_to(model.network, device)

    def embed(texts: Sequence[str], prompt: Side) -> Floats:
        before = model.prompt_before(prompt)
        return model.encode_tokens(model.tokenize([before + text for text in texts]), after_batch=context.check_stop)

    return embed


def _tokenize(context: RunContext, loaded: LoadedModel, spec: TrainReranker, pairs: Pairs) -> TokenTable:
    limit = min(spec.training.max_length, loaded.max_tokens)
    return tokenize_pairs(loaded.tokenizer, pairs.texts, limit, context.check_stop, types=loaded.has_types)


def _metrics(verdict: RankingVerdict, result: TrainingResult, part: str) -> dict[str, float]:
    """Figures that an interrupted run repeats exactly; times belong to the report. `part`: whose rows judged."""
    own, *others = verdict.systems
    metrics = {"train/loss": result.loss}
    metrics |= {f"{part}/{name}": value for name, value in own.measures.items()}
    metrics |= {f"{part}/{verdict.metric}_low": own.low, f"{part}/{verdict.metric}_high": own.high}
    metrics |= {f"baseline/{KEYS[other.system]}_{verdict.metric}": other.value for other in others}
    return metrics


def _report(
    spec: TrainReranker,
    split: PairSplit,
    verdict: RankingVerdict,
    result: TrainingResult,
    tokens: TokenTable,
    seconds: dict[str, float],
) -> dict[str, object]:
    return {
        "verdict": verdict.as_json(),
        "rows": {
            "train": len(split.train),
            "train_negatives": int((split.train.labels < RELEVANT_MIN).sum()),
            "validation": len(split.fit) - len(split.train),
            spec.judging_part: len(split.validation),
            "queries_train": len(split.train.rows_by_query()),
            f"queries_{spec.judging_part}": len(split.validation.rows_by_query()),
            "choosing_too": split.choosing_too,
            "overlap": split.overlap.model_dump(mode="json"),
        },
        "tokens_per_pair": float(tokens.lengths.mean()),
        "training": result.as_json(),
        "seconds": dict(seconds),
    }
