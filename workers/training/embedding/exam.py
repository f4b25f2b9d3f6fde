"""What held-out rows ask of an embedder."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from jobspecs.lifecycle import Reason
from jobspecs.problems import Problem
from workers.judging.embedding_verdict import Exam, Search
from workers.judging.search import Listed, SameClass
from workers.local_models.tokens import Int64s
from workers.run.context import RunFailed
from workers.training.embedding.data import EmbeddingRows


def exam_of(rows: EmbeddingRows) -> Exam:
    """What the held-out rows ask. Raises RunFailed(invalid_dataset) when no class has two texts there."""
    if rows.fields[0] != "sentence1":
        return _by_positives(rows) if rows.targets is None else _by_class(rows, rows.targets)
    if rows.targets is None:
        raise RunFailed(Reason.internal_error, "pairs without scores ask nothing.")
    return Exam(rows.column(0), rows.column(1), ("sentence1", "sentence2"), rows.targets)


def _by_positives(rows: EmbeddingRows) -> Exam:
    """Each anchor looks for its positives."""
    candidates = np.unique(rows.columns[:, 1:])
    place_of = {text: place for place, text in enumerate(candidates.tolist())}
    relevant: dict[int, set[int]] = {}
    for anchor, positive in rows.columns[:, :2].tolist():
        relevant.setdefault(anchor, set()).add(place_of[positive])
    own = [place_of.get(anchor, -1) for anchor in relevant]
    # A text that is its own positive should be found.
    own = [-1 if place in found else place for place, found in zip(own, relevant.values(), strict=True)]
    return Exam(
        [rows.texts[anchor] for anchor in relevant],
        [rows.texts[text] for text in candidates],
        ("anchor", "positive"),
        Search(Listed(tuple(_places(found) for found in relevant.values())), np.array(own, dtype=np.int64)),
    )


def _by_class(rows: EmbeddingRows, classes: npt.NDArray[np.float32]) -> Exam:
    """Each text is a query; the others of its class are what it should find. A class with one text asks nothing."""
    texts = rows.column(0)
    _, places, counts = np.unique(classes, return_inverse=True, return_counts=True)
    asking = np.flatnonzero(counts[places] > 1).astype(np.int64)
    if not len(asking):
        problem = Problem(
            field="validation.fraction",
            message=f"no class has two of the {len(rows)} held-out texts: there is nothing to judge by.",
            remedy="Raise validation.fraction or add rows.",
        )
        raise RunFailed(Reason.invalid_dataset, str(problem))
    search = Search(SameClass(asking, classes), asking)
    return Exam([texts[row] for row in asking], texts, ("text", "text"), search)


def _places(found: set[int]) -> Int64s:
    return np.array(sorted(found), dtype=np.int64)
