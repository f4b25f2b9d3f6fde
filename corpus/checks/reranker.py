"""`train-reranker`: a query with a labelled passage per row, or with one that answers and perhaps one that does not."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from corpus.cells import number_cell, score_cell, text_cell
from corpus.checks.findings import ROWS_KEPT_MAX, Findings, normalised, text_hash
from corpus.checks.identifiers import Identifiers
from corpus.checks.remarks import remarks_of_text
from corpus.checks.rows import CheckedFile, Rows, UsableRow, table_rows
from corpus.pair_splits import overlap_of, query_split
from corpus.rankings import check_compared, check_ranked, compared, metric_of
from corpus.splits import Indices, SplitRows
from jobspecs.kinds.train_reranker import LISTWISE, TrainReranker
from jobspecs.kinds.training import CHOOSING_ROWS_MIN
from jobspecs.problems import Problem


class RerankerData:
    """Implements `corpus.checks.rows.Validator`.

    All rows of a query are on one side. A leak is a held-out pair that differs from a trained one by case and spaces.
    """

    unit, split_unit, classes, skips_bad_rows = "pair", "query", False, False
    max_length_field = "training.max_length"

    def __init__(self, spec: TrainReranker) -> None:
        self._spec = spec
        self._identifiers = Identifiers()
        #: Of labelled pairs, what judges them, and where that is another column what they are learnt by.
        self._labels, self._learnt = array("f"), array("f")
        self.max_length = spec.training.max_length
        self.max_length_chosen = "max_length" in spec.training.model_fields_set
        self.batch_size: int | None = spec.training.batch_size

    def rows(self, file: CheckedFile) -> Rows:
        judged = [self._spec.judge.label] if self._spec.judge is not None else []
        return table_rows(file, [*self._spec.columns.values(), *judged], self._row)

    def split(self, found: Findings) -> SplitRows:
        """Deals pairs, as the runner does: a row with a negative has two, and its first may be that of another row."""
        found.warnings += self._identifiers.warnings()
        spec, pairs = self._spec, found.tied_texts()
        rows = np.repeat(np.arange(len(found.numbers)), len(pairs) // len(found.numbers))
        roles = found.roles[rows]
        if spec.positive is not None:
            once = np.unique(np.column_stack([pairs, roles]), axis=0, return_index=True)[1]
            kept = np.sort(once)
            pairs, rows, roles = pairs[kept], rows[kept], roles[kept]
        found.dealt = rows, np.unique(pairs, axis=0, return_inverse=True)[1].astype(np.int64)
        queries = found.group_numbers[rows]
        split = query_split(spec, roles=roles, queries=queries, texts=pairs)
        found.overlap = overlap_of(split, pairs, ("query", "passage"))
        if spec.label is not None:
            labels = np.array(self._labels)
            metric = metric_of(labels, queries) if spec.metric == "auto" else spec.metric
            found.settings["metric"] = metric
            check_ranked(labels[split.validation], queries[split.validation], metric)
            if spec.loss_name in LISTWISE and not spec.mines_negatives:
                self._check_compared(found, split, queries)
        return split

    def _check_compared(self, found: Findings, split: SplitRows, queries: Indices) -> None:
        """Raises InvalidInput when the loss has nothing to compare."""
        learnt = np.array(self._learnt if self._spec.judge is not None else self._labels)
        check_compared(learnt[split.train], queries[split.train])
        looked = int(compared(learnt[split.choosing], queries[split.choosing]).sum())
        if self._spec.training.epochs == "auto" and looked < CHOOSING_ROWS_MIN <= len(split.choosing):
            message = (
                f"of {len(split.choosing):,} rows of validation {looked} belong to queries with unlike labels, which "
                f"is all that {self._spec.loss_name} can be measured by: they decide nothing, and training ends as "
                "without them."
            )
            remedy = "Name queries with passages of unlike labels, use bce, or leave validation out."
            found.warnings.append(Problem(field="validation", message=message, remedy=remedy))

    def _row(self, number: int, row: dict[str, Any]) -> UsableRow:
        spec = self._spec
        query = text_cell(row[spec.query], spec.query, None, number)
        columns = [column for column in (spec.passage, spec.positive, spec.negative) if column is not None]
        passages = [text_cell(row[column], column, None, number) for column in columns]
        texts = {spec.query: query, **dict(zip(columns, passages, strict=True))}
        self._identifiers.add(texts)
        label = _label(spec, row, number) if spec.label is not None else None
        if label is not None and len(self._labels) < ROWS_KEPT_MAX:
            if spec.judge is not None:
                self._learnt.append(label)
            self._labels.append(label if spec.judge is None else _label(spec.judging, row, number))
        pairs = [(query, passage) for passage in passages]
        return UsableRow(
            number,
            pairs,
            content="\0".join((query, *passages, "" if label is None else str(label))),
            guarded="\0".join(pairs[0]),
            # Names of groups are kept: texts of ten million queries would take several GB.
            group=f"{text_hash(query):x}",
            tied=[normalised(text) for pair in pairs for text in pair],
            remarks=[remark for column, text in texts.items() for remark in remarks_of_text(text, column)],
        )


def _label(spec: TrainReranker, row: dict[str, Any], number: int) -> float:
    """The label between 0 and 1."""
    column = str(spec.label)
    if spec.threshold is None:
        return score_cell(row[column], column, spec.score_range, None, number)
    return float(number_cell(row[column], column, None, number) >= spec.threshold)
