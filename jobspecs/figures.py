"""The figures that each job kind may measure, by the names of its manifest: what a condition can compare.

Every test that runs a runner holds it to this. Where a spec leaves the choice to the data, every choice is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import get_args

from jobspecs.kinds.base import SpecBase
from jobspecs.kinds.finetune_llm import FinetuneLlm
from jobspecs.kinds.predict import Predict
from jobspecs.kinds.score_pairs import ScorePairs
from jobspecs.kinds.train_classifier import ClassMetric, TrainClassifier
from jobspecs.kinds.train_embedder import TrainEmbedder
from jobspecs.kinds.train_reranker import RankingMetric, TrainReranker

_TRAINING = "train/loss"
_BY_SCORE = ("spearman", "pearson")
#: What is measured beside the metric that decides, and that itself.
_RANKING = {"ndcg_at_10": ("ndcg_at_10", "mrr", "average_precision"), "spearman": _BY_SCORE}
_SEARCH = {"ndcg_at_10": ("ndcg_at_10", "recall_at_1", "recall_at_10", "recall_at_100"), "spearman": _BY_SCORE}
_PAIRWISE = ("reward_margin", "reward_accuracy")


def _with_interval(names: Iterable[str]) -> set[str]:
    return {f"{name}{end}" for name in names for end in ("", "_low", "_high")}


def _classifier(spec: TrainClassifier) -> set[str]:
    deciding: tuple[ClassMetric, ...] = ("accuracy", "macro_f1") if spec.metric == "auto" else (spec.metric,)
    named = {"macro_f1", *_with_interval(("accuracy", *deciding))}
    compared = ("accuracy", "macro_f1", *deciding)
    baselines = {f"baseline/{key}_{name}" for key in ("svm", "majority") for name in compared}
    training = set() if spec.linear else {_TRAINING}
    return {*training, *(f"{spec.judging_part}/{name}" for name in named), *baselines}


def _embedder(spec: TrainEmbedder) -> set[str]:
    part, measured = spec.judging_part, {name for names in _SEARCH.values() for name in names}
    found = {_TRAINING, *(f"{part}/{name}" for name in {*measured, *_with_interval(_SEARCH)})}
    found |= {f"{other}/{name}" for other in ("base", "baseline") for name in measured}
    return found | {f"{part}/{name}_dim{dim}" for name in _SEARCH for dim in spec.matryoshka_dims}


def _reranker(spec: TrainReranker) -> set[str]:
    deciding = get_args(RankingMetric) if spec.metric == "auto" else (spec.metric,)
    measured = {name for metric in deciding for name in _RANKING[metric]}
    found = {_TRAINING, *(f"{spec.judging_part}/{name}" for name in {*measured, *_with_interval(deciding)})}
    return found | {f"baseline/{key}_{name}" for key in ("base", "bi_encoder", "bm25") for name in deciding}


def _llm(spec: FinetuneLlm) -> set[str]:
    part = spec.judging_part
    paired = set() if spec.objective in ("sft", "pretrain") else {f"{part}/{name}" for name in _PAIRWISE}
    return {_TRAINING, "baseline/loss", *_with_interval((f"{part}/loss",)), *paired}


def _pairs(spec: ScorePairs) -> set[str]:
    agreement = {"scores/spearman_with_label"} if spec.label is not None else set()
    return {"scores/mean", "scores/deviation", *agreement}


def _quantized(spec: SpecBase) -> set[str]:
    measured = _with_interval(f"validation/{name}" for name in ("perplexity", "kl_divergence", "agreement"))
    sizes = {"size/bits_per_weight", "size/bytes", "size/baseline_bytes"}
    return {*measured, "baseline/perplexity", *sizes, "parity/kl_divergence", "parity/agreement"}


def _predict(spec: Predict) -> set[str]:
    said = ("probability", "score", "tokens", "cut", "unanswered")
    return {f"rows/{name}" for name in ("predicted", *said)}


def _import(spec: SpecBase) -> set[str]:
    return {f"parity/tensors_{name}" for name in ("compared", "equal", "reordered")}


def _merge(spec: SpecBase) -> set[str]:
    return {"merge/models", "merge/tensors"}


_FIGURES: Mapping[str, Callable[..., set[str]]] = MappingProxyType(
    {
        "train-classifier": _classifier,
        "train-embedder": _embedder,
        "train-reranker": _reranker,
        "finetune-llm": _llm,
        "score-pairs": _pairs,
        "predict": _predict,
        "import-model": _import,
        "merge": _merge,
        "quantize": _quantized,
    }
)


def figures_of_kind(spec: SpecBase) -> frozenset[str]:
    """Every figure that a job with this spec may leave in its manifest."""
    return frozenset(_FIGURES[spec.kind](spec))


#: Kind -> what judges such a job, best first: of several that exclude each other, the one that was measured.
_DECIDING: Mapping[str, Callable[..., tuple[str, ...]]] = MappingProxyType(
    {
        "train-classifier": lambda spec: ("macro_f1",) if spec.metric == "auto" else (spec.metric,),
        "train-embedder": lambda spec: tuple(_SEARCH),
        "train-reranker": lambda spec: tuple(_RANKING) if spec.metric == "auto" else (spec.metric,),
        "finetune-llm": lambda spec: ("loss",),
    }
)


def deciding_figures(spec: SpecBase) -> tuple[str, ...]:
    """The figures by which jobs with this spec are compared, without the part of the data; empty: nothing says so."""
    found = _DECIDING.get(spec.kind)
    return found(spec) if found is not None else ()
