"""From what models say of rows to figures with intervals, by task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.stats import rankdata

from corpus.bootstrap import Between
from corpus.rankings import ranked_queries
from jobspecs.kinds.evaluate import Evaluate, Task
from jobspecs.lifecycle import Reason
from workers.evaluating.truth import Truth
from workers.judging.answer_overlap import exact_match, keeps_to, rouge, schema_validator
from workers.judging.calibration import calibration_curve, calibration_error
from workers.judging.class_metrics import Predictions, drawn, figure
from workers.judging.errors_shown import Errors
from workers.judging.llm_verdict import perplexity
from workers.judging.measured import Measured, mean_of, measured
from workers.judging.ranking_verdict import numbered, pearson, ranking_measures
from workers.judging.search import MEASURES
from workers.judging.verdict import score
from workers.predicting.predictors import Said
from workers.run.context import RunFailed

#: The figure that decides which of two models is better.
DECIDES: Mapping[Task, str] = MappingProxyType(
    {
        "classification": "accuracy",
        "similarity": "spearman",
        "retrieval": "ndcg_at_10",
        "reranking": "ndcg_at_10",
        "perplexity": "bits_per_byte",
    }
)


def deciding(spec: Evaluate) -> str:
    """Of answers: ROUGE-L where there are right ones, else whether they are JSON of the schema, else the judge."""
    if spec.task != "generation":
        return DECIDES[spec.task]
    return "rouge_l" if spec.has_references else "valid_json" if spec.json_schema is not None else "preferred"


def figures_of(
    spec: Evaluate, said: Mapping[str, Sequence[Said]], truth: Truth, between: Between
) -> dict[str, Measured]:
    """Reference of each model -> its figures on the same rows. `said`: reference -> what it says of each row.

    Raises RunFailed(invalid_dataset) when the rows can tell nothing.
    """
    return _FIGURES[spec.task](spec, said, truth, between)


def _classes(spec: Evaluate, said: Mapping[str, Sequence[Said]], truth: Truth, between: Between) -> dict[str, Measured]:
    known = {label for cells in said.values() for label in cells[0]["probabilities"]}
    wanted = [str(label) for label in truth.wanted]
    if not known & {*wanted}:
        few = ", ".join(sorted(known)[:5])
        raise _untold(f"none of its labels is a class of the models; they say {few}")
    classes = tuple(dict.fromkeys([*wanted, *sorted(known)]))
    place_of = {name: place for place, name in enumerate(classes)}
    labels = np.array([place_of[label] for label in wanted], dtype=np.int64)
    return {model: _of_classes(model, cells, labels, classes, truth, between) for model, cells in said.items()}


def _of_classes(
    model: str,
    cells: Sequence[Said],
    labels: np.ndarray[Any, Any],
    classes: Sequence[str],
    truth: Truth,
    between: Between,
) -> Measured:
    probabilities = np.zeros((len(cells), len(classes)), dtype=np.float32)
    for place, name in enumerate(classes):
        probabilities[:, place] = [cell["probabilities"].get(name, 0.0) for cell in cells]
    found = Predictions(probabilities.argmax(axis=1))
    right = (found.labels == labels).astype(np.float64)
    sure = probabilities.max(axis=1).astype(np.float64)
    judged = score(model, labels, found, classes)
    shown = Errors.of(truth.shown, labels, probabilities, classes)
    return measured(
        model,
        {
            "accuracy": mean_of(right),
            "macro_f1": lambda rows: figure("macro_f1", labels[rows], drawn(found, rows), len(classes)),
            "calibration_error": lambda rows: calibration_error(right[rows], sure[rows]),
        },
        len(labels),
        "rows",
        between,
        right=right,
        details={
            "per_class": {name: asdict(one) for name, one in judged.per_class.items() if one.rows},
            "confusion": shown.confusion,
            "mistakes": shown.mistakes,
            "calibration": calibration_curve(right, sure),
        },
    )


def _correlations(
    spec: Evaluate, said: Mapping[str, Sequence[Said]], truth: Truth, between: Between
) -> dict[str, Measured]:
    labels, clusters = np.array(truth.numbers), numbered(truth.groups)
    if len(np.unique(labels)) < 2:
        raise _untold("all its scores are the same")

    def of(model: str, cells: Sequence[Said]) -> Measured:
        scores = np.array([cell["score"] for cell in cells], dtype=np.float64)
        return measured(
            model,
            {
                "spearman": lambda rows: pearson(rankdata(labels[rows]), rankdata(scores[rows])),
                "pearson": lambda rows: pearson(labels[rows], scores[rows]),
            },
            len(labels),
            "pairs",
            between,
            clusters,
        )

    return {model: of(model, cells) for model, cells in said.items()}


def _orders(spec: Evaluate, said: Mapping[str, Sequence[Said]], truth: Truth, between: Between) -> dict[str, Measured]:
    labels, groups = np.array(truth.numbers), numbered(truth.groups)
    if labels.min() < 0 or labels.max() > 1:
        raise _untold("labels of reranking go from 0 (not relevant) to 1")
    queries = ranked_queries(labels, groups)
    if not queries:
        raise _untold("no query has both a relevant passage and another one")
    clusters = numbered([numbered(truth.passages)[rows[labels[rows].argmax()]] for rows in queries])

    def of(model: str, cells: Sequence[Said]) -> Measured:
        scores = np.array([cell["score"] for cell in cells], dtype=np.float64)
        table = np.array([ranking_measures(labels[rows], scores[rows]) for rows in queries])
        return _of_queries(model, ("ndcg_at_10", "mrr", "average_precision"), table, clusters, between)

    return {model: of(model, cells) for model, cells in said.items()}


def _searches(
    spec: Evaluate, said: Mapping[str, Sequence[Said]], truth: Truth, between: Between
) -> dict[str, Measured]:
    asking = [row for row, cell in enumerate(next(iter(said.values()))) if cell]
    clusters = numbered([truth.passages[row] for row in asking])
    return {
        model: _of_queries(
            model, MEASURES, np.array([[cells[row][name] for name in MEASURES] for row in asking]), clusters, between
        )
        for model, cells in said.items()
    }


def _of_queries(
    model: str, names: Sequence[str], table: np.ndarray[Any, Any], clusters: np.ndarray[Any, Any], between: Between
) -> Measured:
    """`table` (Q, M): the measures of each query."""
    statistics = {name: mean_of(table[:, place]) for place, name in enumerate(names)}
    return measured(model, statistics, len(table), "queries", between, clusters)


def _likelihoods(
    spec: Evaluate, said: Mapping[str, Sequence[Said]], truth: Truth, between: Between
) -> dict[str, Measured]:
    rows = [row for row in range(len(truth)) if all(cells[row]["nats"] is not None for cells in said.values())]
    if not rows:
        raise _untold("none of its texts has two tokens, so that there is nothing to predict")

    def of(model: str, cells: Sequence[Said]) -> Measured:
        nats, tokens, sizes = (
            np.array([cells[row][name] for row in rows], dtype=np.float64) for name in ("nats", "tokens", "bytes")
        )
        return measured(
            model,
            {
                "bits_per_byte": lambda drawn: float(nats[drawn].sum() / sizes[drawn].sum()) / math.log(2),
                "perplexity": lambda drawn: perplexity(float(nats[drawn].sum() / tokens[drawn].sum())),
            },
            len(rows),
            "texts",
            between,
            details={"tokens": int(tokens.sum()), "left_out": len(truth) - len(rows)},
        )

    return {model: of(model, cells) for model, cells in said.items()}


def _answers(spec: Evaluate, said: Mapping[str, Sequence[Said]], truth: Truth, between: Between) -> dict[str, Measured]:
    def of(model: str, cells: Sequence[Said]) -> Measured:
        table = {name: np.array([float(cell[name]) for cell in cells]) for name in scored_names(spec)}
        preferred = [cell["preferred"] for cell in cells if cell.get("preferred") is not None]
        if preferred:
            table["preferred"] = np.array(preferred, dtype=np.float64)
        return measured(
            model,
            {name: mean_of(values) for name, values in table.items()},
            len(cells),
            "rows",
            between,
            right=table.get("exact_match"),
            details={"cut": sum(cell["finish_reason"] == "length" for cell in cells)},
        )

    return {model: of(model, cells) for model, cells in said.items()}


def scored_names(spec: Evaluate) -> tuple[str, ...]:
    """What each answer is measured by without a judge."""
    by_right = ("exact_match", "rouge_1", "rouge_2", "rouge_l") if spec.has_references else ()
    return (*by_right, *(("valid_json",) if spec.json_schema is not None else ()))


def with_scores(spec: Evaluate, cells: Sequence[Said], truth: Truth) -> list[Said]:
    """The answers with what each is worth.

    Raises RunFailed(invalid_dataset) for a row without a right answer, and for a schema that is none.
    """
    try:
        return _scored(spec, cells, truth)
    except ValueError as error:
        raise RunFailed(Reason.invalid_dataset, f"{error}.") from error


def _scored(spec: Evaluate, cells: Sequence[Said], truth: Truth) -> list[Said]:
    validator = schema_validator(spec.json_schema) if spec.json_schema is not None else None
    found = []
    for number, (cell, right) in enumerate(zip(cells, truth.wanted, strict=True), start=1):
        answer, scores = cell["answer"] or "", Said()
        if spec.has_references:
            if right is None:
                raise _untold(f"row {number} has no right answer: its conversation ends with a question")
            scores = {"exact_match": float(exact_match(answer, right)), **rouge(answer, right)}
        if validator is not None:
            scores["valid_json"] = float(keeps_to(answer, validator))
        found.append({**cell, **scores})
    return found


def _untold(why: str) -> RunFailed:
    return RunFailed(Reason.invalid_dataset, f"the data set can tell nothing: {why}.")


_FIGURES: Mapping[Task, Callable[[Evaluate, Mapping[str, Sequence[Said]], Truth, Between], dict[str, Measured]]] = (
    MappingProxyType(
        {
            "classification": _classes,
            "similarity": _correlations,
            "retrieval": _searches,
            "reranking": _orders,
            "perplexity": _likelihoods,
            "generation": _answers,
        }
    )
)
