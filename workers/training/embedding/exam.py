"""What held-out rows ask of an embedder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jobspecs.kinds.train_embedder import PASSAGES_MAX
from jobspecs.lifecycle import Reason
from workers.judging.embedding_verdict import Exam, Search
from workers.judging.ranking_verdict import numbered
from workers.judging.search import Listed, SameClass
from workers.local_models.tokens import Int64s
from workers.run.context import RunFailed
from workers.training.embedding.data import EmbeddingRows, EmbeddingSplit


def exam_of(split: EmbeddingSplit, seed: int) -> Exam:
    """What the held-out rows ask; `seed` draws the passages of a large data set."""
    rows = split.validation
    if rows.fields[0] != "sentence1":
        return _by_positives(split, seed) if rows.targets is None else _by_class(rows, rows.targets)
    if rows.targets is None:
        raise RunFailed(Reason.internal_error, "pairs without scores ask nothing.")
    return Exam(rows.column(0), rows.column(1), ("sentence1", "sentence2"), rows.targets, rows.numbers)


def _by_positives(split: EmbeddingSplit, seed: int) -> Exam:
    """Each held-out anchor looks for its positives among the passages of the whole data set, as it will in use.

    Among the held-out ones alone every system finds nearly everything. Of more than PASSAGES_MAX, others than the
    held-out ones are drawn.
    """
    rows = split.validation
    anchors = list(dict.fromkeys(rows.columns[:, 0].tolist()))
    relevant: dict[int, set[int]] = {anchor: set() for anchor in anchors}
    for anchor, positive in np.concatenate([rows.columns[:, :2], split.fit.columns[:, :2]]).tolist():
        if anchor in relevant:
            relevant[anchor].add(positive)
    needed = np.unique([*np.unique(rows.columns[:, 1:]), *(text for found in relevant.values() for text in found)])
    others = np.setdiff1d(split.fit.columns[:, 1:], needed)
    room = max(0, PASSAGES_MAX - len(needed))
    if len(others) > room:
        others = np.random.default_rng(seed).permutation(others)[:room]
    candidates = np.union1d(needed, others)
    place_of = {text: place for place, text in enumerate(candidates.tolist())}
    # A text that is its own positive should be found.
    own = [-1 if anchor in relevant[anchor] else place_of.get(anchor, -1) for anchor in anchors]
    places = tuple(np.array(sorted(place_of[text] for text in relevant[a]), dtype=np.int64) for a in anchors)
    return Exam(
        [rows.texts[anchor] for anchor in anchors],
        [rows.texts[text] for text in candidates],
        ("anchor", "positive"),
        Search(Listed(places), np.array(own, dtype=np.int64), _clusters(places)),
        rows.numbers[np.sort(np.unique(rows.columns[:, 0], return_index=True)[1])],
    )


def _clusters(places: Sequence[Int64s]) -> Int64s:
    """(Q,) the cluster of each query: the same for those whose first answer is the same text."""
    return numbered([int(found[0]) for found in places])


def _by_class(rows: EmbeddingRows, classes: npt.NDArray[np.float32]) -> Exam:
    """Each text is a query; the others of its class are what it should find. A class with one text asks nothing."""
    texts = rows.column(0)
    _, places, counts = np.unique(classes, return_inverse=True, return_counts=True)
    # Some are: the split is refused where none is (`twins_of`).
    asking = np.flatnonzero(counts[places] > 1).astype(np.int64)
    search = Search(SameClass(asking, classes), asking)
    return Exam([texts[row] for row in asking], texts, ("text", "text"), search, rows.numbers[asking])
