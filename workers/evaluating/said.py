"""Asks every model, row after row, and keeps what it says: where a run was broken off, it goes on."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from jobspecs.events import ProgressEvent
from jobspecs.kinds.base import ADAPTER_BASE_SUFFIX
from jobspecs.kinds.evaluate import JUDGE_ROLE, Evaluate
from jobspecs.manifest import sha256_of
from workers.evaluating.examiners import load_examiner
from workers.evaluating.preferences import AnswerJudge, Contest
from workers.evaluating.truth import Truth, questions
from workers.predicting.predictors import Predictor, Said
from workers.predicting.row_log import RowLog
from workers.predicting.table_rows import TableRows, written_rows
from workers.run.code_version import code_digest
from workers.run.context import RunContext, RunStopped
from workers.training.checkpoints import UnusableCheckpoint

_log = logging.getLogger(__name__)

#: What of a spec has no say in what is found.
_IDLE = {"name", "priority", "resources", "checkpoint_every_rows"}
#: Rows that a judge is asked about between two looks at whether a checkpoint is due.
_JUDGED_ROWS = 64


@dataclass
class Asking:
    """All models over all rows, in this order, the judge last; the log has a line for each."""

    context: RunContext
    spec: Evaluate
    table: TableRows
    truth: Truth
    log: RowLog
    resumed_at: int
    begun_s: float

    @classmethod
    def of(cls, context: RunContext, spec: Evaluate, table: TableRows, truth: Truth) -> Asking:
        """With what an earlier attempt's checkpoint has, unless that is of another run."""
        root = context.checkpoints_dir.parent
        root.mkdir(parents=True, exist_ok=True)
        log = RowLog(context, root / "said.jsonl.gz", _fingerprint(context, spec), spec.checkpoint_every_rows)
        if context.resume_from is not None:
            try:
                log.resume(context.resume_from)
            except UnusableCheckpoint as error:
                _log.warning("checkpoint refused, the evaluation starts anew: %s", error)
        return cls(context, spec, table, truth, log, log.rows, time.monotonic())

    def run(self) -> dict[str, list[Said]]:
        """Role -> what the model says of each row; of answers with what the judge prefers. Raises RunStopped."""
        rows = len(self.truth)
        roles = self.spec.roles()
        for place, (role, reference) in enumerate(roles.items()):
            if self.log.rows < (place + 1) * rows:
                folder, base = self._folders(role)
                examiner = load_examiner(self.spec, reference, folder, base)
                try:
                    self._ask(examiner, place)
                finally:
                    examiner.close()
        said = self._said(list(roles))
        if self.spec.judge is not None:
            self._judge(said)
        return said

    def _folders(self, role: str) -> tuple[Path, Path | None]:
        models = self.context.models
        return models.get(role) or self.context.base, models.get(role + ADAPTER_BASE_SUFFIX)

    def _ask(self, examiner: Predictor, place: int) -> None:
        """One model, from the first row that the log lacks."""
        rows = len(self.truth)
        done = self.log.rows - place * rows
        for window in _windows(islice(self.table, done, None), examiner.window):
            given = [examiner.read(self.table, row, done + number) for number, row in enumerate(window, start=1)]
            self._keep(len(window), lambda first=done + 1, given=given: examiner.say(given, first, self._after))  # type: ignore[misc]
            done += len(window)

    def _judge(self, said: dict[str, list[Said]]) -> None:
        """What the judge prefers: the first model's answers to the others', or to the right ones."""
        first, *others = said.values()
        judge_spec = self.spec.judge
        folder, base = self._folders(JUDGE_ROLE)
        done = self.log.rows - len(said) * len(self.truth)
        asked = [one.text for one in questions(self.table, self.spec)]
        if done < len(asked) and judge_spec is not None:
            judge = AnswerJudge(self.spec, judge_spec, folder, base)
            for start in range(done, len(asked), _JUDGED_ROWS):
                rows = range(start, min(start + _JUDGED_ROWS, len(asked)))
                against = others or [[{"answer": right} for right in self.truth.wanted]]
                contests: list[Contest] = [
                    (asked[row], str(first[row]["answer"] or ""), str(cells[row]["answer"] or ""))
                    for row in rows
                    for cells in against
                ]

                def prefer(contests: list[Contest] = contests, count: int = len(against)) -> list[Said]:
                    found = judge.prefer(contests, lambda number: self._after(number // count))
                    return [{"preferred": found[at : at + count]} for at in range(0, len(found), count)]

                self._keep(len(rows), prefer)
        for row, line in enumerate(islice(self._lines(), len(said) * len(self.truth), None)):
            preferred = line["preferred"]
            first[row]["preferred"] = sum(preferred) / len(preferred)
            for cells, value in zip(others, preferred, strict=False):
                cells[row]["preferred"] = 1 - value

    def _keep(self, rows: int, say: Callable[[], list[Said]]) -> None:
        try:
            said = say()
        except RunStopped:
            self.log.save()
            raise
        content = written_rows(said, "jsonl.gz", first=self.log.rows == 0)
        self.log.append(rows, content, last=self.log.rows + rows == self._total)

    @property
    def _total(self) -> int:
        return len(self.truth) * (len(self.spec.models) + (self.spec.judge is not None))

    def _after(self, within: int) -> None:
        self.context.check_stop()
        done = self.log.rows + within
        per_s = max(done - self.resumed_at, 1) / max(time.monotonic() - self.begun_s, 1e-9)
        left_s = (self._total - done) / per_s
        self.context.emit(
            ProgressEvent(stage="ask", step=done, steps_total=self._total, sequences_per_s=per_s, eta_s=left_s)
        )

    def _said(self, roles: Sequence[str]) -> dict[str, list[Said]]:
        rows, lines = len(self.truth), self._lines()
        return {role: list(islice(lines, rows)) for role in roles}

    def _lines(self) -> Iterator[Said]:
        with gzip.open(self.log.path, "rt", encoding="utf-8") as stream:
            yield from map(json.loads, stream)


def _windows(rows: Iterator[Said], size: int) -> Iterator[list[Said]]:
    while window := list(islice(rows, size)):
        yield window


def _fingerprint(context: RunContext, spec: Evaluate) -> str:
    """sha256 over all that decides what is said: a checkpoint continues only the run that wrote it."""
    models = [f"{role} {origin.reference} {origin.digest}" for role, origin in sorted(context.origins.items())]
    told = [spec.model_dump_json(exclude=_IDLE), sha256_of(context.data), code_digest(), *models]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()
