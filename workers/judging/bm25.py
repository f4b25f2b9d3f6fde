"""BM25 (Robertson et al. 1994): how well the words of a query match a passage. What any neural ranking must beat."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from corpus.bootstrap import Between, no_stop
from workers.judging.waiting import waited_for


@contextmanager
def _without_jax() -> Iterator[None]:
    """Where jax is installed, bm25s computes with it while it is imported, and has no setting against that (0.3.16).

    jax would start threads in the zygote before it forks, and take three quarters of a GPU's memory by default. It is
    only used for `retrieve`, which nothing here calls. A module that is None can't be imported.
    """
    hidden = sys.modules.setdefault("jax", None)  # type: ignore[arg-type]
    try:
        yield
    finally:
        if hidden is None:
            del sys.modules["jax"]


with _without_jax():
    import bm25s

Scores = npt.NDArray[np.float32]

_WORD = r"(?u)\b\w+\b"


class Bm25:
    """An index over N passages. Words are lower-cased runs of letters and digits: none are left out, none stemmed."""

    def __init__(self, passages: Sequence[str]) -> None:
        self._passages = len(passages)
        words = _words(passages)
        self._index = bm25s.BM25() if any(words) else None
        if self._index is not None:
            self._index.index(words, show_progress=False)

    def scores(self, query: str) -> Scores:
        """Scores (N,) of all passages, 0 where no word of the query occurs."""
        (words,) = _words([query])
        known = [] if self._index is None else [word for word in words if word in self._index.vocab_dict]
        if self._index is None or not known:
            return np.zeros(self._passages, dtype=np.float32)
        return np.asarray(self._index.get_scores(known), dtype=np.float32)


def _words(texts: Sequence[str]) -> list[list[str]]:
    tokens = bm25s.tokenize(list(texts), _WORD, stopwords=None, return_ids=False, show_progress=False)
    return [list(words) for words in tokens]


def pair_scores(queries: Sequence[str], passages: Sequence[str], between: Between = no_stop) -> Scores:
    """Scores (N,) of N pairs, over an index of all their passages. `between` is called between two queries, and all
    the time while the index is made.
    """
    corpus = {passage: place for place, passage in enumerate(dict.fromkeys(passages))}
    index = waited_for(lambda: Bm25(list(corpus)), between)
    rows: dict[str, list[int]] = {}
    for row, query in enumerate(queries):
        rows.setdefault(query, []).append(row)
    scores = np.zeros(len(queries), dtype=np.float32)
    for query, own in rows.items():
        between()
        scores[own] = index.scores(query)[[corpus[passages[row]] for row in own]]
    return scores
