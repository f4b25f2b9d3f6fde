"""What each task asks of a model for every row. What a model says of rows anyway is asked as `predict` asks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from corpus.cells import text_cell
from jobspecs.kinds.evaluate import NEEDS, Evaluate, Task
from jobspecs.kinds.predict import Predict, wrong_task
from jobspecs.lifecycle import Reason
from workers.judging.embedding_verdict import Exam, Search
from workers.judging.perplexity import Pieces, pieces_of
from workers.judging.ranking_verdict import numbered
from workers.judging.search import MEASURES, Listed
from workers.local_models import linear
from workers.local_models.adapters import is_adapter, load_adapter
from workers.local_models.base_model import invalid_model, load_causal_lm
from workers.local_models.devices import move_to, prepare_device
from workers.local_models.embedding_model import load_embedder
from workers.predicting.predictors import AfterEach, Predictor, Row, Said, load_predictor, task_of_folder
from workers.predicting.table_rows import TableRows
from workers.run.context import RunFailed
from workers.training.llm.decoder import decoder_of
from workers.training.llm.likelihood import log_probs_of


def load_examiner(spec: Evaluate, reference: str, folder: Path, base: Path | None) -> Predictor:
    """The model, with what the task asks of it. `base`: of an adapter. Raises RunFailed(invalid_model)."""
    task = task_of_folder(folder)
    if task not in NEEDS[spec.task].models:
        raise RunFailed(
            Reason.invalid_model, str(wrong_task("models", reference, task, NEEDS[spec.task].models, spec.task))
        )
    if spec.task in _OWN:
        return _OWN[spec.task](spec, folder, base)
    return load_predictor(_as_predicted(spec, reference), folder, base)[1]


def _as_predicted(spec: Evaluate, reference: str) -> Predict:
    reads: Mapping[Task, dict[str, Any]] = {
        "classification": {"text": spec.text},
        "similarity": {"pair": spec.pair},
        "reranking": {"pair": (spec.query, spec.passage)},
        "generation": {"prompt": spec.prompt, "messages": spec.messages, "system": spec.system},
    }
    told = {"kind": "predict", "name": spec.name, "model": reference, "dataset": spec.dataset}
    shared = {"max_length": spec.max_length, "generation": spec.generation.model_dump()}
    return Predict.model_validate({**told, **reads[spec.task], **shared})


class _Likelihood:
    """Nats, tokens and bytes of each text; None for a text too short to predict anything."""

    window = 64

    def __init__(self, spec: Evaluate, folder: Path, base: Path | None) -> None:
        self._column, self._device = str(spec.text), prepare_device()
        if is_adapter(folder):
            if base is None:
                raise invalid_model("this is an adapter, and the model that it changes is not there.")
            loaded = load_causal_lm(base)
            model = load_adapter(loaded.model, folder)
        else:
            loaded = load_causal_lm(folder)
            model = loaded.model
        model = move_to(model, self._device).train(False)
        linear.use_in(model)
        self._tokenizer, self._max_tokens = loaded.tokenizer, min(spec.max_length, loaded.max_tokens)
        try:
            self._decoder = decoder_of(model, pad_id=loaded.pad_id, packing=True)
        except ValueError as error:
            raise invalid_model(f"{error}.") from error

    def read(self, table: TableRows, row: Row, number: int) -> str:
        return table.cell(text_cell, row, self._column, number)

    def say(self, given: Sequence[Any], first: int, after_each: AfterEach) -> list[Said]:
        whole = [self._pieces(text) for text in given]
        known = [(place, pieces) for place, pieces in enumerate(whole) if pieces is not None]
        said: list[Said] = [{"nats": None, "tokens": 0, "bytes": len(text.encode())} for text in given]
        if known:
            ids = tuple(piece for _, pieces in known for piece in pieces.ids)
            owners = np.repeat([place for place, _ in known], [len(pieces.ids) for _, pieces in known])
            lengths = np.array([one["bytes"] for one in said], dtype=np.int64)
            together = Pieces(ids, owners.astype(np.int64), lengths)
            found = log_probs_of(self._decoder, together, self._device, lambda done: after_each(0))
            nats, tokens = together.of_texts(-found), together.of_texts(together.tokens.astype(np.float64))
            for place, _ in known:
                said[place] |= {"nats": float(nats[place]), "tokens": int(tokens[place])}
        after_each(len(given))
        return said

    def close(self) -> None:
        return

    def _pieces(self, text: str) -> Pieces | None:
        try:
            return pieces_of(self._tokenizer, [text], self._max_tokens)
        except ValueError:
            return None


class _Retrieval:
    """Each distinct query looks for its passages among those of all rows; its first row has the measures."""

    #: All rows at once: every query looks at every passage.
    window = 1 << 40

    def __init__(self, spec: Evaluate, folder: Path, base: Path | None) -> None:
        self._columns = str(spec.query), str(spec.passage)
        self._model = load_embedder(folder)
        self._model.max_tokens = min(self._model.max_tokens, spec.max_length)
        move_to(self._model.network, prepare_device())

    def read(self, table: TableRows, row: Row, number: int) -> tuple[str, str]:
        query, passage = (table.cell(text_cell, row, column, number) for column in self._columns)
        return query, passage

    def say(self, given: Sequence[Any], first: int, after_each: AfterEach) -> list[Said]:
        exam, asking = _exam(given)
        queries = self._vectors(exam.queries, "query", lambda done: after_each(0))
        candidates = self._vectors(exam.candidates, "passage", lambda done: after_each(0))
        found = exam.answers(queries, candidates, lambda: after_each(0))
        said: list[Said] = [{} for _ in given]
        for row, measures in zip(asking, found.tolist(), strict=True):
            said[row] = dict(zip(MEASURES, measures, strict=True))
        return said

    def close(self) -> None:
        return

    def _vectors(self, texts: Sequence[str], side: Any, after_each: AfterEach) -> np.ndarray[Any, Any]:
        before = self._model.prompt_before(side)
        tokens = self._model.tokenize([before + text for text in texts])
        return self._model.encode_tokens(tokens, after_batch=after_each)


def _exam(rows: Sequence[tuple[str, str]]) -> tuple[Exam, list[int]]:
    """The search, and the place of each query's first row."""
    candidates = {passage: place for place, passage in enumerate(dict.fromkeys(passage for _, passage in rows))}
    asking: dict[str, int] = {}
    wanted: dict[str, set[int]] = {}
    for place, (query, passage) in enumerate(rows):
        asking.setdefault(query, place)
        wanted.setdefault(query, set()).add(candidates[passage])
    places = tuple(np.array(sorted(wanted[query]), dtype=np.int64) for query in asking)
    # A query that is a passage too need not find itself, unless it should.
    own = [-1 if candidates.get(query) in wanted[query] else candidates.get(query, -1) for query in asking]
    search = Search(Listed(places), np.array(own, dtype=np.int64), numbered([int(found[0]) for found in places]))
    numbers = np.array(list(asking.values()), dtype=np.int64)
    return Exam(list(asking), list(candidates), ("query", "passage"), search, numbers), list(asking.values())


_OWN: Mapping[Task, Callable[[Evaluate, Path, Path | None], Predictor]] = MappingProxyType(
    {"perplexity": _Likelihood, "retrieval": _Retrieval}
)
