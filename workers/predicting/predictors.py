"""What a model of each task says of rows. A new task adds a class and a line in PREDICTORS."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from corpus.asking import Asked, Asking
from corpus.cells import text_cell
from jobspecs.kinds.predict import READ_BY, Predict
from jobspecs.lifecycle import Reason
from jobspecs.model_tasks import task_of_model
from jobspecs.problems import InvalidInput
from jobspecs.tasks import SENTENCE_SIMILARITY, TEXT_CLASSIFICATION, TEXT_GENERATION, TEXT_RANKING
from workers.engines.embedded.tasks.text_classifier import load_text_classifier
from workers.local_models.adapters import is_adapter
from workers.local_models.base_model import invalid_model, read_json
from workers.local_models.devices import THREADS_VARIABLE, move_to, prepare_device
from workers.local_models.embedding_model import load_embedder
from workers.local_models.ranking_model import load_reranker
from workers.predicting.answers import Answerer
from workers.predicting.table_rows import TableRows
from workers.run.context import RunFailed

Row = dict[str, Any]
Said = dict[str, Any]
AfterEach = Callable[[int], None]

#: Texts between two looks at whether to stop, where a model has no looks of its own.
_CHUNK_ROWS = 128


class Predictor(Protocol):
    """A loaded model. `window`: rows that go through it together."""

    window: int

    def read(self, table: TableRows, row: Row, number: int) -> Any:
        """What the model reads of a row, which counts from 1. Raises RunFailed(invalid_dataset)."""

    def say(self, given: Sequence[Any], first: int, after_each: AfterEach) -> list[Said]:
        """What it says of each: new columns without their prefix. `first`: the number of the first row.

        `after_each` is told how many are done and may raise to stop.
        """

    def close(self) -> None:
        """Ends what it started."""


class _Encoder:
    window = 512

    def __init__(self, spec: Predict) -> None:
        self._spec = spec

    def read(self, table: TableRows, row: Row, number: int) -> Any:
        if self._spec.pair is not None:
            return tuple(table.cell(text_cell, row, column, number) for column in self._spec.pair)
        return table.cell(text_cell, row, str(self._spec.text), number)

    def close(self) -> None:
        return


class _Classes(_Encoder):
    def __init__(self, spec: Predict, folder: Path, base: Path | None) -> None:
        super().__init__(spec)
        self._model = load_text_classifier(folder, threads())

    def say(self, given: Sequence[Any], first: int, after_each: AfterEach) -> list[Said]:
        found = []
        for start in range(0, len(given), _CHUNK_ROWS):
            for scores in self._model.classify(given[start : start + _CHUNK_ROWS]):
                probabilities = {one.label: rounded(one.score) for one in scores}
                best = scores[0]
                found.append({"label": best.label, "probability": rounded(best.score), "probabilities": probabilities})
            after_each(len(found))
        return found


class _Vectors(_Encoder):
    def __init__(self, spec: Predict, folder: Path, base: Path | None) -> None:
        super().__init__(spec)
        self._model = load_embedder(folder)
        self._model.max_tokens = min(self._model.max_tokens, spec.max_length)
        move_to(self._model.network, prepare_device())
        try:
            self._model.prompt(spec.prompt_name)
        except ValueError as error:
            raise invalid_model(f"prompt_name: {error}") from error

    def say(self, given: Sequence[Any], first: int, after_each: AfterEach) -> list[Said]:
        def encoded(texts: Sequence[str], after: AfterEach) -> np.ndarray[Any, Any]:
            return self._model.encode(texts, prompt_name=self._spec.prompt_name, after_batch=after)

        if self._spec.pair is None:
            return [{"vector": decimals(vector)} for vector in encoded(given, after_each)]
        ones = encoded([one for one, _ in given], lambda done: after_each(0))
        others = encoded([other for _, other in given], after_each)
        return [{"score": rounded(score)} for score in (ones * others).sum(axis=1)]


class _Scores(_Encoder):
    def __init__(self, spec: Predict, folder: Path, base: Path | None) -> None:
        super().__init__(spec)
        self._model = load_reranker(folder, prepare_device(), spec.max_length)

    def say(self, given: Sequence[Any], first: int, after_each: AfterEach) -> list[Said]:
        return [{"score": rounded(score)} for score in self._model.score_pairs(given, after_batch=after_each)]


class _Answers:
    #: A row takes seconds: little may be lost, and more than grow at once keep the model busy.
    window = 64

    def __init__(self, spec: Predict, folder: Path, base: Path | None) -> None:
        self._asking = Asking(spec.prompt, spec.system, spec.messages)
        self._seed = spec.generation.seed
        self._answerer = Answerer.load(folder, base, spec.generation, spec.max_length, threads())

    def read(self, table: TableRows, row: Row, number: int) -> Asked:
        return table.located(lambda: self._asking.of(row), number)

    def say(self, given: Sequence[Any], first: int, after_each: AfterEach) -> list[Said]:
        seeds = [(self._seed + first + place) % 2**63 for place in range(len(given))]
        return [
            {"answer": one.text, "finish_reason": one.finish_reason, "tokens": one.tokens}
            for one in self._answerer.answer(given, seeds, after_each)
        ]

    def close(self) -> None:
        self._answerer.close()


#: Task -> how a model of it is loaded: spec, its folder, and the folder of an adapter's base.
PREDICTORS: Mapping[str, Callable[[Predict, Path, Path | None], Predictor]] = MappingProxyType(
    {
        TEXT_CLASSIFICATION.name: _Classes,
        SENTENCE_SIMILARITY.name: _Vectors,
        TEXT_RANKING.name: _Scores,
        TEXT_GENERATION.name: _Answers,
    }
)


def load_predictor(spec: Predict, folder: Path, base: Path | None) -> tuple[str, Predictor]:
    """The task of the model in `folder`, and the model; `base`: of an adapter. Raises RunFailed(invalid_model)."""
    task = task_of_folder(folder)
    if task is None or task not in READ_BY[spec.reads]:
        raise RunFailed(Reason.invalid_model, str(spec.wrong_task(task)))
    return task, PREDICTORS[task](spec, folder, base)


def task_of_folder(folder: Path) -> str | None:
    """The task of the model in a folder; None for a bare encoder. Raises RunFailed(invalid_model)."""
    if is_adapter(folder):
        return TEXT_GENERATION.name
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    config = read_json(folder / "config.json", required="modules.json" not in paths)
    try:
        return task_of_model(config, paths)
    except InvalidInput as error:
        raise invalid_model(str(error)) from error


def threads() -> int:
    """Of one job's matrix products, as the host has it."""
    return max(1, int(os.environ.get(THREADS_VARIABLE, "1")))


def rounded(score: Any) -> float:
    """The shortest decimal that is this float32: no digit is noise, none is missing."""
    return float(str(np.float32(score)))


def decimals(vector: np.ndarray[Any, Any]) -> list[float]:
    """The numbers (D,) of a vector, each as `rounded` has it."""
    return [float(text) for text in vector.astype(str)]
