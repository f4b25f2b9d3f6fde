"""What the rows that judge say of a classifier: the verdict, and what is kept of it. Notation: N rows, C classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from corpus.bootstrap import Between
from corpus.checks.findings import text_hashes
from jobspecs.manifest import DatasetOrigin
from workers.judging.baselines import KEYS
from workers.judging.class_metrics import Predictions, predictions_of
from workers.judging.held_out_file import Column, Judged, Part, named
from workers.judging.verdict import Verdict, judge
from workers.training.classification.data import Split


def verdict_of(
    split: Split, scores: npt.NDArray[np.float32], baselines: dict[str, Predictions], between: Between, system: str
) -> Verdict:
    """`scores` (N, C): probabilities of the held-out rows by the `system` that was trained. `between` may raise."""
    return judge(
        split.validation.labels,
        split.validation.classes,
        predictions_of(scores),
        baselines,
        split.metric,
        largest=int(np.bincount(split.train.labels).argmax()),
        between=between,
        system=system,
    )


def judged(
    split: Split,
    scores: npt.NDArray[np.float32],
    baselines: Mapping[str, Predictions],
    part: Part,
    dataset: DatasetOrigin,
    system: str,
) -> Judged:
    """What is kept: from it alone the verdict can be computed again."""
    rows = split.validation
    columns = [
        Column("label", named(rows.labels, rows.classes), "class in the data set"),
        Column("predicted", named(scores.argmax(axis=1), rows.classes), f"likeliest class by the {system} model"),
        Column("probabilities", scores, f"by the {system} model, 0 to 1, of each of `classes`"),
    ]
    for system, found in baselines.items():
        key = KEYS[system]
        columns.append(Column(key, named(found.labels, rows.classes), f"class by {system}"))
        if found.scores is not None:
            meaning = f"how far on the side of the second class, by {system}; no unit"
            columns.append(Column(f"{key}_score", found.scores, meaning))
    facts = {"metric": split.metric, "classes": list(rows.classes)}
    texts = text_hashes(rows.texts)
    return Judged("train-classifier", part, dataset, rows.numbers, texts, "the text", columns, facts)
